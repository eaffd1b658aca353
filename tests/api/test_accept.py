"""``Accept: image/…`` returns the picture itself."""

import io

import pytest
from PIL import Image

from .calls import BINARY, explain, opened, problem

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


def accepting(client, data, accept, **options):
    return client.post("/explain", content=data, headers=BINARY | {"Accept": accept}, params=options)


def shown(response):
    """The picture in a response, which must be of the media type that the response says."""
    assert response.status_code == 200, response.text[:500]
    image = Image.open(io.BytesIO(response.content))
    assert FORMATS[response.headers["content-type"]] == image.format
    image.load()
    return image


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_picture_type_returns_that_picture_with_the_usual_headers(client, png, media_type):
    response = accepting(client, png, media_type)
    assert response.headers["content-type"] == media_type
    assert shown(response).size == (500, 375)
    assert response.headers["x-request-id"]
    assert "render;dur=" in response.headers["server-timing"]


def test_png_is_the_heatmap_and_jpeg_and_webp_the_overlay_unless_said_otherwise(client, png):
    assert shown(accepting(client, png, "image/png")).mode == "P"
    assert shown(accepting(client, png, "image/png", output="overlay")).mode == "RGB"
    assert shown(accepting(client, png, "image/jpeg")).mode == "RGB"
    assert shown(accepting(client, png, "image/webp")).mode == "RGB"


@pytest.mark.parametrize(
    ("accept", "options"), [("image/png", {"output": "heatmap"}), ("image/jpeg", {"output": "overlay"})]
)
def test_the_picture_is_the_one_that_json_holds(client, png, accept, options):
    asked = {"model": "resnet18", "target": 7, "colormap": "jet", "size": "input", **options}
    picture = opened(explain(client, png, **asked)[options["output"]])
    assert shown(accepting(client, png, accept, **asked)).tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/jpeg, image/png;q=0.5", "image/jpeg"),
        ("image/png;q=0.2, image/jpeg;q=0.9", "image/jpeg"),
        ("image/png;q=0.2,image/webp;q=0.3,application/json;q=0.1", "image/webp"),
        ("image/jpeg;q=0, image/webp;q=0.001", "image/webp"),
        ("IMAGE/PNG", "image/png"),
        ("image/png;level=1;q=0.9, */*;q=0.1", "image/png"),
        ("image/*", "image/png"),
        ("image/gif, image/webp", "image/webp"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/webp"),  # a browser's <img>
        ("application/json", "application/json"),
        ("application/json, image/png", "application/json"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("*/*", "application/json"),
        ("application/*, image/png;q=0.9", "application/json"),
        ("image/png;q=0", "application/json"),
        ("image/png;q=nonsense", "application/json"),
        ("image/gif", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "application/json"),  # Java's HttpURLConnection
        ("text/html,application/xhtml+xml,image/avif,image/webp,image/apng,*/*;q=0.8", "application/json"),
        ("image/jpeg, text/html;q=0.1", "image/jpeg"),
        ("text/html;q=0.1, image/png, */*;q=0.1", "image/png"),
        ("text/html, image/png", "application/json"),
        (";;,,=", "application/json"),
    ],
)
def test_the_most_preferred_type_is_returned_and_json_where_none_is(client, png, accept, media_type):
    response = accepting(client, png, accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type


def test_any_picture_type_leaves_the_choice_to_the_format_option(client, png):
    assert shown(accepting(client, png, "image/*", output="overlay", format="webp")).format == "WEBP"
    assert shown(accepting(client, png, "image/png", output="overlay", format="webp")).format == "PNG"


@pytest.mark.parametrize("accept", ["image/jpeg", "image/webp", "image/jpeg, image/webp;q=0.5"])
def test_a_heatmap_is_refused_to_who_accepts_no_png(client, png, accept):
    detail = problem(accepting(client, png, accept, output="heatmap"), 400, "bad_option")
    assert "image/png" in detail
    assert "overlay" in detail


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/jpeg, image/png;q=0.5", "image/png"),
        ("image/jpeg, image/png", "image/png"),
        ("image/webp, image/*;q=0.3", "image/png"),
        ("image/jpeg, application/json;q=0.1", "application/json"),
    ],
)
def test_a_heatmap_is_returned_in_the_best_type_that_it_has(client, png, accept, media_type):
    response = accepting(client, png, accept, output="heatmap")
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"] == media_type


@pytest.mark.parametrize(
    "options",
    [{"target": [1, 2]}, {"output": ["heatmap", "overlay"]}, {"output": "map"}, {"output": ["map", "overlay"]}],
)
def test_more_than_one_picture_or_none_is_refused_with_what_would_work(client, png, options):
    detail = problem(accepting(client, png, "image/png", **options), 400, "bad_option")
    assert "one image, one target" in detail
    assert "application/json" in detail


def test_several_images_are_refused_even_if_one_target_is_asked(client, png):
    files = [("image", png), ("image", png)]
    response = client.post("/explain", files=files, data={"target": "1"}, headers={"Accept": "image/jpeg"})
    assert "one image" in problem(response, 400, "bad_option")


def test_an_error_is_a_problem_whatever_is_accepted(client, png):
    assert problem(accepting(client, b"no picture", "image/png"), 422, "undecodable_image")
    assert problem(accepting(client, png, "image/jpeg", target="unicorn"), 422, "unknown_target")


def test_predict_has_no_picture_to_return(client, png):
    response = client.post("/predict", content=png, headers=BINARY | {"Accept": "image/png"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
