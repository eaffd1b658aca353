"""What the client answers is what the service says."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from api.calls import encoded, opened, photo, values
from gradcam_service.client import AsyncClient, Client, ExplainedTarget, Prediction, Refused, Result
from gradcam_service.client.pictures import encoded as in_a_file
from live import Service
from repository import ROOT


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return photo(96, 64)


@pytest.fixture(scope="module")
def png(picture: Image.Image) -> bytes:
    return encoded(picture, "PNG")


@pytest.fixture(scope="module")
def said(service: Service, png: bytes) -> dict:
    """What the service itself answers to that picture about two targets."""
    targets = ["star", json.dumps({"class": 3, "against": ["star", 1]})]
    options = {"target": targets, "output": ["heatmap", "overlay", "map"], "boxes": "true", "legend": "true"}
    response = service.client.post("/explain", files={"image": png}, data=options)
    return response.json()["results"][0]


@pytest.fixture(scope="module")
def result(client: Client, png: bytes) -> Result:
    return client.explain(
        png,
        target=["star", {"class": 3, "against": ["star", 1]}],
        output=["heatmap", "overlay", "map"],
        boxes=True,
        legend=True,
    )


def test_predictions_are_the_services(result: Result, said: dict):
    assert [prediction_of(each) for each in result.predictions] == said["predictions"]
    assert result.raw == said
    assert (result.error, result.warnings) == (None, said.get("warnings", []))
    assert (result.model.name, result.model.version) == ("scenes", "1")


def prediction_of(prediction: Prediction) -> dict:
    """A prediction as JSON, without what it hasn't."""
    return {name: value for name, value in msgspec.structs.asdict(prediction).items() if value == value}


def test_explanations_are_the_services(result: Result, said: dict):
    for explanation, body in zip(result.explanations, said["explanations"], strict=True):
        assert explanation.map.dtype == np.float32
        assert np.array_equal(explanation.map, values(body["map"]))
        for drawn, written in ((explanation.heatmap, body["heatmap"]), (explanation.overlay, body["overlay"])):
            assert drawn.mode == opened(written).mode
            assert drawn.tobytes() == opened(written).tobytes()
        assert list(explanation.region) == body["region"]
        assert list(explanation.image_size) == body["image_size"] == [96, 64]
        assert list(map(list, explanation.boxes)) == body["boxes"]
        assert (explanation.max, explanation.empty, explanation.kind) == (body["max"], body["empty"], body["kind"])
        assert (explanation.method, explanation.layer) == (body["method"], body["layer"])
        assert list(explanation.peak or ()) == body.get("peak", [])
        assert list(explanation.scale or ()) == body.get("scale", [])


def test_targets_say_what_was_explained(result: Result, said: dict):
    star, contrast = (explanation.target for explanation in result.explanations)
    assert (star.label, star.chosen, star.against) == ("star", "request", None)
    of_contrast = said["explanations"][1]["target"]
    assert (contrast.index, contrast.value) == (3, of_contrast["value"])
    assert [other.index for other in contrast.against] == [other["index"] for other in of_contrast["against"]]


def test_what_was_not_asked_for_says_how_to_ask(client: Client, png: bytes):
    (explanation,) = client.explain(png, output="map").explanations
    for name in ("heatmap", "overlay"):
        with pytest.raises(ValueError, match=f"output='{name}' asks for it"):
            getattr(explanation, name)


def forms(picture: Image.Image, folder: Path) -> dict[str, object]:
    """A picture in every form that it may have, each of the same pixels."""
    png = encoded(picture, "PNG")
    (folder / "picture.png").write_bytes(png)
    turned, exif = picture.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be turned back, clockwise
    phone = Image.open(io.BytesIO(encoded(turned, "PNG", exif=exif)))
    return {
        "path": folder / "picture.png",
        "name": str(folder / "picture.png"),
        "bytes": png,
        "view": memoryview(png),
        "Pillow": picture,
        "Pillow, with a meaningless alpha": picture.convert("RGBA"),
        "Pillow, on its side": phone,
        "array": np.asarray(picture),
        "array, not contiguous": np.asarray(picture)[:, ::-1][:, ::-1],
    }


def test_an_image_is_the_same_in_every_form(client: Client, picture: Image.Image, tmp_path: Path):
    given = forms(picture, tmp_path)
    first, *others = ((name, client.explain(each, output="map").raw) for name, each in given.items())
    for name, raw in others:
        assert raw == first[1], name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "HSV", "RGBa"])
def test_pictures_of_every_mode_are_seen_as_pillow_sees_them(client: Client, picture: Image.Image, mode: str):
    given = picture.convert("RGBA" if mode == "RGBa" else "RGB").convert(mode)
    assert client.predict(given).raw == client.predict(given.convert("RGBA").convert("RGB")).raw


def test_gray_of_premultiplied_alpha_is_seen_as_that_of_plain_alpha(client: Client, picture: Image.Image):
    plain = picture.convert("LA")
    assert client.predict(plain.convert("La")).raw == client.predict(plain).raw


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_are_sent_in_whatever_order_they_are(order: str):
    numbers = np.arange(4096 * 12, step=12, dtype=np.uint16).reshape(64, 64)
    mode = {"<": "I;16", ">": "I;16B"}[order]
    given = Image.frombytes(mode, (64, 64), numbers.astype(f"{order}u2").tobytes())
    sent = Image.open(io.BytesIO(in_a_file(given)))
    assert sent.mode == "I;16"
    assert np.array_equal(np.asarray(sent), numbers)


def test_numbers_of_more_bits_are_sent_as_such(client: Client):
    with pytest.raises(Refused, match="float32 doesn't fit this model"):
        client.predict(Image.new("F", (8, 8), 0.5))
    with pytest.raises(Refused, match="float64 doesn't fit this model"):
        client.predict(np.zeros((8, 8)))


def logits(results: list[Result]) -> object:
    """The best class's of each, which are the same to the last digit only in batches of the same size."""
    return pytest.approx([result.predictions[0].logit for result in results], abs=1e-4)


def test_a_list_is_answered_in_its_order(client: Client):
    pictures = [photo(width, 48) for width in (64, 96, 128)]
    alone = [client.predict(each) for each in pictures]
    assert len({result.predictions[0].logit for result in alone}) == 3
    assert logits(client.predict(pictures)) == [result.predictions[0].logit for result in alone]
    assert logits(client.predict((pictures[2], pictures[0]))) == [alone[i].predictions[0].logit for i in (2, 0)]
    assert isinstance(client.predict(pictures[:1]), list)


def test_an_image_without_an_answer_raises_it_and_touches_no_other(client: Client, png: bytes):
    fine, broken, too = client.predict([png, b"no picture", png])
    assert fine.raw == too.raw
    assert isinstance(broken.error, Refused)
    assert (broken.error.status, broken.error.code) == (422, "undecodable_image")
    assert broken.error.request_id == broken.request_id == fine.request_id
    for name in ("predictions", "explanations", "warnings", "raw"):
        with pytest.raises(Refused, match="undecodable_image") as raised:
            getattr(broken, name)
        assert raised.value is broken.error


def test_what_is_wrong_with_a_call_is_raised_with_the_services_words(client: Client, service: Service, png: bytes):
    with pytest.raises(Refused) as raised:
        client.explain(png, target="dragon")
    problem = service.client.post("/explain", files={"image": png}, data={"target": "dragon"}).json()
    assert (raised.value.code, raised.value.detail) == (problem["code"], problem["detail"])
    assert raised.value.request_id
    with pytest.raises(Refused, match="undecodable_image"):
        client.predict([b"no picture"])
    with pytest.raises(Refused, match="bad_option"):
        client.predict(png, top_k=0)


def test_what_is_no_picture_is_refused_before_anything_is_sent(client: Client, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        client.predict(tmp_path / "nowhere.jpg")
    with pytest.raises(TypeError, match="int is no picture; a path"):
        client.predict(3)
    with pytest.raises(TypeError, match="an option can't be a PosixPath"):
        client.explain(b"x", layer=tmp_path)
    with pytest.raises(ValueError, match=r"'http://localhost/photo\.jpg' is no path, and URLs are not fetched"):
        client.predict("http://localhost/photo.jpg")
    with pytest.raises(TypeError, match="images are the first argument"):
        client.explain(b"x", images=[b"y"])
    with pytest.raises(ValueError, match="an empty list has no image"):
        client.explain([])


def test_targets_are_those_of_every_image(client: Client, png: bytes):
    with pytest.raises(Refused, match="a target is no list: all of them are explained in every image of a request"):
        client.explain([png, png], target=[["star"], ["flower"]])


def test_numpys_numbers_are_options(client: Client, png: bytes):
    scores = np.array([each.logit for each in client.predict(png, top_k=np.int64(3)).predictions])
    assert scores.shape == (3,)
    (explanation,) = client.explain(png, target=np.arange(3)[1]).explanations
    assert explanation.target.index == 1


def test_an_index_is_no_label(tmp_path: Path):
    """Of classes whose labels are numbers, 3 is the fourth, and "3" the one that is called so."""
    from .scripted import Says, scripted

    with scripted([Says(418)] * 2) as server, Client(server.url) as client:
        for target in (3, "3"):
            with pytest.raises(Refused):
                client.explain(b"", target=target)
    assert [json.loads(request.body)["target"] for request in server.requests] == [3, "3"]


def test_the_asynchronous_client_answers_alike_and_many_at_once(service: Service, client: Client, png: bytes):
    pictures = [photo(width, 48) for width in (64, 96, 128)]

    async def ask() -> tuple[list[Result], object, str]:
        async with AsyncClient(service.url) as other:
            results = await asyncio.gather(*(other.explain(each, output="map") for each in pictures))
            listed = await other.predict([png, b"no picture"])
            assert listed[1].error is not None
            return results, (await other.models())[0], (await other.model("scenes")).name

    results, first, name = asyncio.run(ask())
    assert logits(results) == [client.predict(each).predictions[0].logit for each in pictures]
    assert all(result.explanations[0].map.shape == (16, 16) for result in results)
    assert (first, name) == (client.models()[0], "scenes")


def test_models_are_those_of_the_service(client: Client, service: Service):
    listed = service.client.get("/models").json()["models"]
    assert [model.model_dump(mode="json", exclude_none=True) for model in client.models()] == listed
    detail = client.model("resnet18@stable")
    assert detail.model_dump(mode="json", exclude_none=True) == service.client.get("/models/resnet18").json()
    assert detail.labels
    with pytest.raises(Refused, match="no_such_path"):
        client.model("a/../../b c?")


def test_every_member_of_an_answer_is_one_of_the_clients(service: Service):
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    for name, kind in {"AnsweringModel": "AnsweringModel", "ExplanationBody": "Explanation"}.items():
        fields = msgspec.structs.fields(getattr(sys.modules["gradcam_service.client"], kind))
        assert {each.encode_name for each in fields} == schemas[name]["properties"].keys()
        assert {each.encode_name for each in fields if each.required} <= set(schemas[name]["required"])
    kinds = [found for name, found in schemas.items() if name.startswith("Explained")]
    assert len(kinds) == 5
    members = {name for kind in kinds for name in kind["properties"]}
    assert {each.name for each in msgspec.structs.fields(ExplainedTarget)} == members
    members = {"predictions", "answers", "actions", "value", "caption", "explanations", "warnings"}
    assert members | {"error"} == schemas["ExplainResult"]["properties"].keys()
    assert members <= vars(Result).keys()


ALONE = """
import sys

NEEDED = {'anyio', 'gradcam_service', 'httpx', 'msgspec', 'numpy', 'PIL', 'pydantic', *sys.argv[1:]}
HEAVY = 'torch fastapi starlette onnx onnxruntime scipy timm zmq click prometheus_client cmap uvicorn psutil'.split()


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in HEAVY:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Absent())
from gradcam_service.client import Client

first = {name.partition('.')[0] for name in sys.modules}
with Client(sys.argv[1]) as client:
    result = client.explain(sys.argv[2], output=['map', 'overlay'])
    print(result.explanations[0].map.sum(), result.explanations[0].overlay.size, len(client.models()))
print(sorted({'numpy', 'PIL', 'pydantic'} & first))
"""


def test_it_needs_nothing_that_the_service_runs_on_and_imports_little(service: Service, png: bytes, tmp_path: Path):
    (tmp_path / "picture.png").write_bytes(png)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, service.url, tmp_path / "picture.png"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    answer, imported = done.stdout.splitlines()
    assert answer.endswith(f"(96, 64) {len(service.client.get('/models').json()['models'])}")
    assert imported == "[]", "by those who ask for neither maps nor pictures nor models"


@pytest.mark.parametrize("page", ["README.md", "docs/client.md"])
def test_the_lines_of_python_on_a_page_do_what_they_say(service: Service, png: bytes, tmp_path: Path, page: str):
    (tmp_path / "photo.jpg").write_bytes(service.client.get("/docs/scene.jpg").content)
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", (ROOT / page).read_text(), re.MULTILINE)
    programs = [block for block in blocks if "from gradcam_service.client import" in block]
    assert programs
    here = {"http://localhost:8000": service.url, "reflex camera": "flower", "tripod": "star"}
    for program in programs:
        for theirs, ours in here.items():
            program = program.replace(theirs, ours)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"star|flower|\(16, 16\)", done.stdout)
    assert Image.open(tmp_path / "star.png").size == Image.open(tmp_path / "photo.jpg").size
