"""Gray pictures of 16 bits, floats, bands and arrays give what the plain network gives for the same numbers."""

import numpy as np
import pytest
import torch
from inputs.dicoms import PATIENT, dicom
from inputs.files import geotiff, npy, of_16_bits, png, smooth, tiff
from inputs.models import MODELS, NETWORKS
from PIL import Image
from torch import nn

from command import gradcam
from repository import ROOT

from .calls import base64_of, explain, opened, problem, result, values

XRAY, SCAN = of_16_bits((48, 64)), of_16_bits((48, 64, 4))
TWELVE = XRAY // 16
DEGREES = (smooth((48, 64)) * 30 + 10).astype(np.float32)


@pytest.fixture(scope="module")
def service(traced):
    """It logs all there is."""
    return traced


@pytest.fixture(scope="module")
def client(service):
    return service.client


def truth(name, seen):
    """Scores and the top class's Grad-CAM of what is seen (H, W, C) in the model's units, by plain torch."""
    _, _, mean, std = MODELS[name]
    namespace = {}
    exec(NETWORKS, namespace)
    network = namespace["network"](len(mean))
    image = torch.from_numpy(np.asarray(seen, np.float64)).permute(2, 0, 1)[None]
    image = torch.nn.functional.interpolate(image, (24, 32), mode="bilinear", antialias=True).float()
    image = (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    features = network[:4](image).detach().requires_grad_()
    scores = nn.Sequential(*network[4:])(features)[0]
    scores.max().backward()
    cam = torch.relu((features.grad.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1))[0]
    return scores.detach().numpy(), cam.detach().numpy()


SENT = {  # what is sent → model, content, content type, the numbers that the model is to see
    "a gray PNG of 16 bits": ("xray", png(XRAY), "image/png", XRAY[..., None] / 65535),
    "a gray TIFF of 16 bits": ("xray", tiff(XRAY), "image/tiff", XRAY[..., None] / 65535),
    "an array of 16 bits": ("xray", npy(XRAY), "application/x-npy", XRAY[..., None] / 65535),
    "a gray PNG of 12 bits in 16": ("film", png(TWELVE), "image/png", TWELVE[..., None] / 4095),
    "a TIFF of floats": ("thermal", tiff(DEGREES), "image/tiff", DEGREES[..., None]),
    "a TIFF of four bands": ("satellite", tiff(SCAN, planarconfig="contig"), "application/octet-stream", SCAN / 65535),
    "a GeoTIFF of four bands": ("satellite", geotiff(SCAN), "image/tiff", SCAN / 65535),
    "a DICOM file of 12 bits": ("xray", dicom(TWELVE, bits=12), "application/dicom", TWELVE[..., None] / 4095),
    "a DICOM file in its units": (
        "thermal",
        dicom(TWELVE, bits=12, RescaleSlope=0.01, RescaleIntercept=-10),
        "application/dicom",
        TWELVE[..., None] * 0.01 - 10,
    ),
    "an array of four bands": ("satellite", npy(SCAN), "application/octet-stream", SCAN / 65535),
}


def send(client, form, data, media_type, **options):
    if form == "raw":
        return client.post("/explain", params=options, content=data, headers={"Content-Type": media_type})
    if form == "multipart":
        return client.post("/explain", files={"image": ("scan", data, media_type)}, data=options)
    return client.post("/explain", json={"image": base64_of(data), **options})


@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
@pytest.mark.parametrize("sent", SENT)
def test_scores_and_map_are_those_of_the_plain_network_on_the_same_numbers(client, sent, form):
    name, data, media_type, seen = SENT[sent]
    scores, cam = truth(name, seen)
    answer = result(send(client, form, data, media_type, model=name, output="map", top_k=5))
    found = {one["index"]: one["logit"] for one in answer["predictions"]}
    np.testing.assert_allclose([found[index] for index in range(5)], scores, rtol=0, atol=1e-4 * np.abs(scores).max())
    np.testing.assert_allclose(values(answer["explanations"][0]["map"]), cam, rtol=0, atol=2e-4 * cam.max())


def test_an_overlay_is_drawn_on_a_picture_made_of_the_numbers(client):
    low, high = np.percentile(XRAY, (1, 99))
    shades = np.clip((XRAY - low) / (high - low), 0, 1) * 255
    asked = {"output": "overlay", "format": "png", "alpha": 0}
    drawn = np.asarray(opened(explain(client, png(XRAY), model="xray", **asked)["overlay"]))
    np.testing.assert_allclose(drawn, np.repeat(shades[..., None], 3, axis=2), atol=1)
    drawn = np.asarray(opened(explain(client, npy(SCAN), model="satellite", **asked)["overlay"]))
    for colour, band in enumerate((3, 2, 0)):
        low, high = np.percentile(SCAN[..., band], (1, 99))
        expected = np.clip((SCAN[..., band] - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(drawn[..., colour], expected, atol=1)


@pytest.mark.parametrize("name", ["xray", "satellite"])
def test_every_method_explains_them(client, name):
    data = npy(XRAY) if name == "xray" else npy(SCAN)
    for method in client.get(f"/models/{name}").json()["methods"]:
        small = {"masks": 20} if method == "rise" else {}
        explanation = explain(client, data, model=name, method=method, output=["heatmap", "overlay", "map"], **small)
        assert opened(explanation["overlay"]).size == (64, 48)
        assert opened(explanation["heatmap"]).size == (64, 48)
        bands = [4] if explanation["kind"] == "signed_colour" else []
        assert explanation["map"]["shape"][2:] == bands


def test_what_is_seen_as_nearly_black_is_answered_with_a_warning(client):
    asked = {"model": "xray", "top_k": 1}
    files = [("image", ("a.png", png(values), "image/png")) for values in (TWELVE, XRAY)]
    for operation in ("predict", "explain"):
        dark, bright = client.post(f"/{operation}", files=files, data=asked).json()["results"]
        (warning,) = dark["warnings"]
        assert f"from {TWELVE.min()} to {TWELVE.max()}, under 1/8 of 0 to 65535" in warning
        assert dark["predictions"]
        assert "warnings" not in bright


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/explain?model=xray", "image/png"), ("/predictions/xray", "*/*"), ("/explanations/xray", "*/*")],
)
def test_a_warning_is_a_header_of_what_has_no_place_for_it(client, path, accept):
    headers = {"Accept": accept, "Content-Type": "image/png"}
    dark, bright = (client.post(path, content=png(values), headers=headers) for values in (TWELVE, XRAY))
    assert (dark.status_code, bright.status_code) == (200, 200)
    assert f"from {TWELVE.min()} to {TWELVE.max()}, under 1/8 of 0 to 65535" in dark.headers["x-warnings"]
    assert "x-warnings" not in bright.headers


@pytest.mark.parametrize(
    ("name", "data", "code", "wanted"),
    [
        ("xray", npy(SCAN), "unfit_input", "(H, W, 1) or (H, W)"),
        ("satellite", npy(XRAY), "unfit_input", "(H, W, 4)"),
        ("xray", npy(DEGREES), "unfit_input", "unsigned integers"),
        ("xray", npy(XRAY)[:-1], "undecodable_image", "its header says"),
        ("scenes", npy(SCAN), "unfit_input", "(H, W, 3)"),
    ],
)
def test_what_a_model_does_not_take_is_refused_saying_what_it_takes(client, name, data, code, wanted):
    response = send(client, "raw", data, "application/x-npy", model=name)
    assert wanted in problem(response, 422, code)


def test_a_model_says_what_it_takes(client):
    inputs = {name: client.get(f"/models/{name}").json()["input"] for name in MODELS}
    files = {
        "media_types": ["image/*", "application/x-npy", "application/dicom"],
        "endings": [".tif", ".tiff", ".npy", ".dcm"],
    }
    arrays = {"width": 32, "height": 24, **files}
    assert inputs["xray"] == {**arrays, "channels": 1, "depth": 16}
    assert inputs["film"] == {**arrays, "channels": 1, "depth": 16, "range": [0, 4095]}
    assert inputs["thermal"] == {**arrays, "channels": 1, "depth": "float"}
    assert inputs["satellite"] == {**arrays, "channels": 4, "depth": 16}
    bodies = client.get("/openapi.json").json()["paths"]["/explain"]["post"]["requestBody"]["content"]
    assert {"application/x-npy", "application/dicom"} <= bodies.keys()
    row = ", ".join(f"`{media_type}`" for media_type in (*files["media_types"], "application/octet-stream"))
    assert f"| {row} |" in (ROOT / "docs" / "api.md").read_text()


def test_a_model_of_8_bit_colours_sees_a_dicom_file_as_a_radiologist_does(client):
    window = {"WindowCenter": 2000, "WindowWidth": 2000, "PhotometricInterpretation": "MONOCHROME1"}
    shades = 255 - np.clip((TWELVE - 1999.5) / 1999 + 0.5, 0, 1) * 255
    asked = {"model": "scenes", "output": ["overlay", "map"], "format": "png", "alpha": 0}
    film, drawn = (
        result(send(client, "raw", data, media_type, **asked))
        for data, media_type in (
            (dicom(TWELVE, bits=12, **window), "application/dicom"),
            (png((shades + 0.5).astype(np.uint8)), "image/png"),
        )
    )
    pixels = np.asarray(opened(film["explanations"][0]["overlay"]))
    np.testing.assert_allclose(pixels, np.repeat(shades[..., None], 3, axis=2), atol=1)
    assert film["predictions"][0]["index"] == drawn["predictions"][0]["index"]
    np.testing.assert_allclose(film["predictions"][0]["logit"], drawn["predictions"][0]["logit"], atol=0.2)


def test_nothing_of_a_patient_is_in_answers_or_logs(service, numbers, tmp_path):
    """Sound, of several frames, cut off, compressed, and refused by the model; by HTTP and by the command line."""
    whole = dicom(TWELVE, bits=12, WindowCenter=2000, WindowWidth=2000)
    files = {
        "whole": whole,
        "frames": dicom(TWELVE, NumberOfFrames=3),
        "strange": dicom(TWELVE, PhotometricInterpretation=PATIENT[:16]),
        "half": whole[: len(whole) // 2],
        "compressed": whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
    }
    said = []
    for name, data in files.items():
        for model in ("scenes", "xray", "satellite"):
            for form in ("raw", "multipart", "json"):
                response = send(service.client, form, data, "application/dicom", model=model, output="map")
                assert response.status_code == (
                    200 if (name, model) in {("whole", "scenes"), ("whole", "xray")} else 422
                )
                said += [response.text, str(response.headers)]
        (tmp_path / "film.dcm").write_bytes(data)
        done = gradcam("predict", tmp_path / "film.dcm", "--model", "xray", **numbers)
        assert done.returncode == (0 if name == "whole" else 2), done.stderr
        said += [done.stdout, done.stderr]
    told = " ".join([*said, *service.output])
    assert "DICOM" in told
    assert "Unmistakable" not in told
    assert "Zzyzx" not in told


def test_the_command_line_warns(numbers, tmp_path):
    (tmp_path / "film.png").write_bytes(png(TWELVE))
    done = gradcam("predict", tmp_path / "film.png", "--model", "xray", **numbers)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    assert done.stderr.startswith("gradcam: warning: its numbers are from ")
    assert done.stderr.count("\n") == 1


def test_the_command_line_takes_such_files(numbers, tmp_path):
    (tmp_path / "scan.npy").write_bytes(npy(SCAN))
    asked = ("explain", tmp_path / "scan.npy", "--model", "satellite", "--legend", "-o", tmp_path / "cam.png")
    done = gradcam(*asked, **numbers)
    assert done.returncode == 0, done.stderr
    scores, _ = truth("satellite", SCAN / 65535)
    assert done.stdout.split()[:2] == [f"{np.exp(scores.max()) / np.exp(scores).sum():.3f}", str(scores.argmax())]
    width, height = Image.open(tmp_path / "cam.png").size
    assert width > 64  # with a legend
    assert height == 64  # which takes as much
    for name, data in (("scan.tif", geotiff(SCAN)), ("film.png", png(XRAY)), ("film.dcm", dicom(TWELVE, bits=12))):
        (tmp_path / name).write_bytes(data)
        model = "satellite" if name == "scan.tif" else "xray"
        done = gradcam("explain", tmp_path / name, "--model", model, "-o", tmp_path / "cam.png", **numbers)
        assert done.returncode == 0, done.stderr
        assert Image.open(tmp_path / "cam.png").size == (64, 48)
