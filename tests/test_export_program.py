"""The program that `gradcam export` writes beside a file: without torch and this package, it answers as the service.

The service's own pipeline answers here in this process.
"""

from __future__ import annotations

import importlib.util
import io
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from api.calls import encoded, png16
from command import gradcam, opened
from gradcam_service.core.options import ExplainOptions, PredictOptions
from gradcam_service.core.results import Explanation
from gradcam_service.export.program import program_for
from gradcam_service.local import Local
from gradcam_service.registry.repository import parse_spec
from live import PATIENCE
from repository import ROOT

PHOTOGRAPHS = ROOT / "service/gradcam_service/pictures"
NETWORKS = """
import torch
from torch import nn


def network(channels=3):
    torch.manual_seed(channels)
    layers = [nn.Conv2d(channels, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 3, 2), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5, bias=False))
    net[-1].weight.data *= 8
    return net.eval()
"""
MEAN_STD = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"
MODELS = {
    "cropped": f"preprocess: {{resize: 90, crop: [48, 81], interpolation: lanczos, {MEAN_STD}}}",
    "beyond": f"preprocess: {{resize: 60, crop: [48, 81], {MEAN_STD}}}\ntask: regression",
    "squashed": "preprocess: {resize: [48, 81], mean: [0, 0, 0], std: [1, 1, 1]}\n"
    "activation: sigmoid\ninput: {channels: bgr}",
    "deep": f"preprocess: {{resize: [80, 90], crop: [48, 81], {MEAN_STD}}}\ninput: {{channels: bgr, depth: 16}}",
    "padded": f"preprocess: {{pad: 75, interpolation: nearest, {MEAN_STD}}}\nactivation: none\n"
    "input: {channels: bgr}",
    "gray": "preprocess: {resize: 80, crop: 64, mean: [0.4], std: [0.25]}\ninput: {channels: gray}",
    "film": "preprocess: {pad: 64, mean: [0.4], std: [0.25]}\ninput: {channels: gray, depth: 16, range: [0, 4095]}",
    "satellite": "preprocess: {resize: 70, crop: 64, mean: [30, 40, 50, 60], std: [20, 20, 25, 30]}\n"
    "input: {channels: 4, depth: float, bands: [3, 2, 0]}",
    "triple": f"preprocess: {{resize: [50, 90], crop: [48, 81], {MEAN_STD}}}\ninput: {{channels: 3}}",
    "single": "preprocess: {resize: 64, crop: 64, mean: [0.4], std: [0.25]}\ninput: {channels: 1, depth: 16}",
}
CHANNELS = {"gray": 1, "film": 1, "satellite": 4, "single": 1}
OF_BANDS = ("satellite", "triple", "single")
GRAPHS = {
    "cropped": ["beyond", "squashed", "deep", "triple"],
    "padded": [],
    "gray": ["film", "single"],
    "satellite": [],
}
"""Those of the same channels and size have the same graph, which is exported once."""


def photograph(name: str) -> Image.Image:
    return Image.open(PHOTOGRAPHS / f"{name}.jpg").convert("RGB")


def turned(picture: Image.Image) -> bytes:
    """A picture whose EXIF says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture, "JPEG", exif=exif, quality=95)


def see_through(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


@cache
def pictures() -> dict[str, bytes]:
    """Files as people have them, by name."""
    camera, cat, coffee = map(photograph, ("camera", "cat", "coffee"))
    portrait, landscape = cat.crop((30, 0, 230, cat.height)), coffee.crop((0, 60, coffee.width, 215))
    clear = portrait.quantize(64)
    clear.info["transparency"] = 3
    return {
        "camera.jpg": (PHOTOGRAPHS / "camera.jpg").read_bytes(),
        "portrait.png": encoded(portrait, "PNG"),
        "landscape.webp": encoded(landscape, "WEBP", lossless=True),
        "turned.jpg": turned(landscape),
        "see-through.png": encoded(see_through(portrait), "PNG"),
        "palette.png": encoded(clear, "PNG", transparency=3),
        "gray.jpg": encoded(camera.convert("L").crop((0, 50, 400, 300)), "JPEG"),
        "cmyk.jpg": encoded(landscape.convert("CMYK"), "JPEG"),
        "16-bit.png": png16(np.asarray(camera.convert("L").resize((150, 220)), np.uint16) * 257),
    }


def arrays() -> dict[str, dict[str, bytes]]:
    """Files of numbers, for each model that takes more than pictures."""
    gray = np.asarray(photograph("cat").convert("L").resize((120, 90)), np.uint16)
    colours = np.asarray(photograph("coffee").resize((130, 77)), np.uint16)
    bands = np.dstack([colours, gray[:77, :1].repeat(130, 1)]) * np.float32(0.7) - 20

    return {
        "film": {
            "12-bit.png": png16(gray * 16),
            "12-bit.tif": encoded(Image.fromarray(gray * 16), "TIFF"),
            "12-bit.npy": npy(gray * 16),
            "signed.npy": npy(gray.astype(np.int32) * 20 - 500),
        },
        "deep": {"colours.npy": npy(colours * 257), "gray.npy": npy((gray * 257).astype(">u2"))},
        "satellite": {"bands.npy": npy(bands)},
        "triple": {"colours.npy": npy(colours.astype(np.uint8))},
        "single": {"shades.npy": npy(gray[:, :, None] * 200)},
    }


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SENT = {name: ({} if name in OF_BANDS else pictures()) | arrays().get(name, {}) for name in MODELS}


SHADES = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000


def scanned(shades: np.ndarray) -> bytes:
    """A TIFF file whose 0 is white, as those of film scanners."""
    file = io.BytesIO()
    tifffile.imwrite(file, shades, photometric="miniswhite")
    return file.getvalue()


ODD = {
    "scanned.tif": scanned(SHADES),
    "keyed.png": encoded(Image.fromarray(SHADES), "PNG", transparency=5000),
    "float.tif": encoded(Image.fromarray(SHADES.astype(np.float32)), "TIFF"),
    "32-bit.tif": encoded(Image.fromarray(SHADES.astype(np.int32) * 9), "TIFF"),
}
REFUSED = {
    "cropped": ODD,
    "gray": ODD | {"signed.npy": npy(SHADES.astype(np.int16)), "float.npy": npy(SHADES.astype(np.float32))},
    "film": ODD | {"float.npy": npy(SHADES.astype(np.float32)), "bands.npy": npy(np.dstack([SHADES] * 2))},
    "deep": ODD | {"colours.png": png16(np.dstack([SHADES] * 3)), "bands.npy": npy(np.dstack([SHADES] * 4))},
    "satellite": {"photo.png": encoded(see_through(photograph("cat")), "PNG"), "bands.npy": npy(SHADES)},
    "triple": pictures(),
    "single": {"gray.png": png16(SHADES), "signed.npy": npy(SHADES.astype(np.int16))},
}
"""What would be read otherwise than by the service, or is refused there: a sentence says what would work."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of every kind of preprocessing, as settings."""
    root = tmp_path_factory.mktemp("models")
    (root / "code").mkdir()
    (root / "code" / "exported_networks.py").write_text(NETWORKS)
    for name, text in MODELS.items():
        folder = root / "models" / name / "1"
        folder.mkdir(parents=True)
        source = (
            f"source: python\narchitecture: exported_networks:network\noptions: {{channels: {CHANNELS.get(name, 3)}}}\n"
        )
        labels = '["tabby, tabby cat", "crane", "crane, machine", "4", "7"]'
        (folder / "model.yaml").write_text(f"{source}runtime: eager\nlabels: {labels}\n{text}\n")
    return {"model_repository": root / "models", "python_path": root / "code"}


@pytest.fixture(scope="module")
def models(repository: dict[str, Path]) -> dict[str, Local]:
    return {name: opened(name, **repository) for name in MODELS}


def explain(model: Local, data: bytes, **options: object) -> Explanation:
    """The one explanation of one picture."""
    (only,) = model.explain(data, ExplainOptions.model_validate(options)).explanations
    return only


@pytest.fixture(scope="module")
def folder(repository: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every model is exported to."""
    folder = tmp_path_factory.mktemp("exported")
    for name, others in GRAPHS.items():
        done = gradcam("export", name, "-o", folder / f"{name}.onnx", device="cpu", **repository)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f"how to ask it → {folder / name}.py\n")
        for other in others:
            spec = parse_spec((repository["model_repository"] / other / "1" / "model.yaml").read_text(), other)
            (folder / f"{other}.py").write_text(program_for(other, f"{other}@1", spec))
            (folder / f"{other}.onnx").symlink_to(folder / f"{name}.onnx")
    return folder


def imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_overlay(
    program: ModuleType, heatmap: np.ndarray, place: Any, size: tuple[int, int], answer: Explanation
) -> None:
    """The map lies where the service lays it, at the picture's own size; over black, the colours alone are left."""
    assert answer.heatmap is not None
    levels = np.asarray(Image.open(io.BytesIO(answer.heatmap.data)))
    heat = levels[:, :, None] / 255
    expected = 255 * np.clip(1.5 - abs(4 * heat - [3, 2, 1]), 0, 1) * heat / 2
    drawn = np.asarray(program.overlay(Image.new("RGB", size), heatmap, place))
    assert drawn.shape == (*size[::-1], 3)
    edges = np.array(place).reshape(2, 2) - 0.5  # of centres just there, rounding decides
    inner = [np.abs(np.arange(side) - edges[:, [axis]]).min(0) > 1e-6 for axis, side in enumerate(size)]
    seen = np.ix_(inner[1], inner[0])
    assert np.abs(drawn - expected)[seen].max() <= 4  # a level of 255 is up to two of a colour


@pytest.mark.parametrize("name", MODELS)
def test_a_program_answers_as_the_service_does(name: str, models: dict[str, Local], folder: Path, tmp_path: Path):
    program = imported(folder / f"{name}.py")
    seen = []
    for file, data in SENT[name].items():
        (tmp_path / file).write_bytes(data)
        picture = program.opened(str(tmp_path / file))
        image, place = program.prepared(picture)
        for target in (0, 3):
            answer = explain(models[name], data, target=[target], output=["map"])
            scores, heatmap = program.explained(image, target)
            expected = answer.map
            assert heatmap.shape == expected.shape
            np.testing.assert_allclose(heatmap, expected, rtol=0, atol=1e-4 * max(expected.max(), 1e-6), err_msg=file)
            score = answer.target.value if name == "beyond" else answer.target.logit
            assert scores[target] == pytest.approx(score, abs=1e-4 * np.abs(scores).max()), file
            np.testing.assert_allclose(place, answer.region, atol=0.006)
            if expected.max() > 0:
                drawn = explain(models[name], data, target=[target], output=["heatmap"], scale=answer.max)
                size = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
                check_overlay(program, heatmap, place, size, drawn)
                seen.append(file)
    assert len(set(seen)) > len(SENT[name]) / 2  # there is something in most of the maps


@pytest.mark.parametrize("name", MODELS)
def test_it_prints_what_the_service_predicts(
    name: str, models: dict[str, Local], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    program = imported(folder / f"{name}.py")
    file, data = next(iter(SENT[name].items()))
    (tmp_path / file).write_bytes(data)
    program.main(str(tmp_path / file), output=str(tmp_path / "overlay.png"))
    printed = [line.split(maxsplit=1 if name == "beyond" else 2) for line in capsys.readouterr().out.splitlines()]
    predicted = models[name].predict(data, PredictOptions(top_k=5)).prediction.predictions
    assert len(printed) == len(predicted) == 5
    for line, expected in zip(printed, predicted, strict=True):
        value, *index, label = line
        assert label == expected.label
        assert list(map(int, index)) in ([], [expected.index])
        number = expected.value if name == "beyond" else expected.probability
        assert float(value) == pytest.approx(number, abs=1e-4)


def test_it_needs_neither_torch_nor_this_package(folder: Path, tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes((PHOTOGRAPHS / "cat.jpg").read_bytes())
    alone = f"""
import runpy, sys
sys.argv = ["cropped.py", "photo.jpg", "tabby"]
runpy.run_path({str(folder / "cropped.py")!r}, run_name="__main__")
assert not {{"torch", "gradcam_service", "scipy"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", alone], check=True, cwd=tmp_path, timeout=PATIENCE)
    assert Image.open(tmp_path / "overlay.png").size == photograph("cat").size


@pytest.mark.parametrize(
    ("target", "index"), [("tabby", 0), ("tabby cat", 0), ("tabby, tabby cat", 0), ("0", 0), ("machine", 2), ("4", 3)]
)
def test_a_class_is_found_by_label_name_or_index(target: str, index: int, folder: Path):
    assert imported(folder / "cropped.py").index_of(target) == index


@pytest.mark.parametrize(
    ("target", "said"),
    [("crane", r"2 classes are called 'crane': \[1, 2\]"), ("dragon", "0 classes"), ("5", "0 classes")],
)
def test_a_class_that_is_not_found_is_said(target: str, said: str, folder: Path):
    with pytest.raises(SystemExit, match=said):
        imported(folder / "cropped.py").index_of(target)


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_read_is_refused_in_a_sentence(name: str, folder: Path, tmp_path: Path):
    program = imported(folder / f"{name}.py")
    for file, data in REFUSED[name].items():
        (tmp_path / file).write_bytes(data)
        with pytest.raises(SystemExit, match=rf"{file}: .* would work"):
            program.opened(str(tmp_path / file))


def test_each_is_written_as_this_project_writes(folder: Path):
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(folder)]
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--ignore", "ANN"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, *config], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout


def test_a_program_has_nothing_that_its_model_does_not_need(folder: Path):
    text = {name: (folder / f"{name}.py").read_text() for name in MODELS}
    assert "npy" not in text["cropped"]
    assert "pad" not in text["cropped"]
    assert "crop" not in text["padded"]
    assert "mean" not in text["squashed"]
    assert "ImageOps" not in text["satellite"]
    assert "exp(" not in text["squashed"]
    assert max(len(lines.splitlines()) for lines in text.values()) < 130


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `imagenet` is exported to, beside the photograph of the README's calls."""
    folder = tmp_path_factory.mktemp("imagenet")
    (folder / "photo.jpg").write_bytes((PHOTOGRAPHS / "camera.jpg").read_bytes())
    assert gradcam("export", "imagenet", "-o", folder / "imagenet.onnx", device="cpu").returncode == 0
    return folder


@pytest.mark.exhaustive
def test_its_page_shows_what_it_prints(imagenet: Path):
    command, shown = re.search(
        r"^    \$ python (imagenet.py .*)\n((?:     .*\n)+)", (ROOT / "docs/export.md").read_text(), re.M
    ).groups()
    done = subprocess.run([sys.executable, *command.split()], cwd=imagenet, capture_output=True, text=True, check=True)
    printed, told = done.stdout.splitlines(), shown.splitlines()
    for line, expected in zip(printed, told, strict=False):
        if expected.strip() != "…":
            assert line.split()[1:] == expected.split()[1:]
            assert float(line.split()[0]) == pytest.approx(float(expected.split()[0]), abs=2e-3)
    assert Image.open(imagenet / "overlay.png").size == photograph("camera").size


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["camera", "cat", "coffee"])
def test_photographs_are_named_and_explained_as_by_the_service(name: str, imagenet: Path):
    program, file = imported(imagenet / "imagenet.py"), PHOTOGRAPHS / f"{name}.jpg"
    answer = explain(opened("imagenet"), file.read_bytes(), output=["map"])
    scores, heatmap = program.explained(program.prepared(program.opened(str(file)))[0])
    assert program.labels[scores.argmax()] == answer.target.label
    assert np.exp(scores - scores.max()).sum() == pytest.approx(1 / answer.target.probability, rel=1e-3)
    np.testing.assert_allclose(heatmap, answer.map, rtol=0, atol=1e-3 * answer.max)
