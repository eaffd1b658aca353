"""A question that can't be answered never harms the others in its batch."""

from concurrent.futures import ThreadPoolExecutor

from .calls import ask


def test_cam_at_a_layer_whose_head_is_not_linear_is_refused_alone(client, png):
    def call(number):
        if number % 2:
            return ask(client, "/explain", png, method="cam", layer="layer3.0.add")
        return ask(client, "/explain", png, method="gradcam", output="map")

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(call, range(64)))
    assert {answer.status_code for answer in answers[::2]} == {200}
    assert {answer.json()["code"] for answer in answers[1::2]} == {"unsupported_method"}


def test_an_unusable_charset_of_a_multipart_body_is_a_400(client):
    body = b'--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; charset=undefined; boundary=x"}
    assert client.post("/predict", content=body, headers=headers).status_code == 400
