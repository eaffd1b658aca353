"""`gradcam export`: what ONNX Runtime answers, without torch, is what the service answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from explain.architectures import CLASSES, images, module
from methods.networks import SIZE as SIDE
from methods.networks import calibrated, varied
from PIL import Image
from torch import nn

from command import gradcam as gradcam_command
from command import opened
from gradcam_service import export as exporting
from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import BadSettings, ModelFailed, UnknownLayer, UnsupportedMethod
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.inputs import Takes
from gradcam_service.kserve import Arguments, arranged
from gradcam_service.local import Local
from gradcam_service.registry import onnx_file
from gradcam_service.registry.spec import Preprocess
from gradcam_service.zoo.scenes import CLASSES as SHAPES
from gradcam_service.zoo.scenes import scene
from live import PATIENCE
from repository import EMBEDDED_MODELS, ROOT

LARGE = pytest.mark.exhaustive


def local(network: Network, side: int) -> Local:
    """The network as a loaded model, with a card made from that of scenes."""
    known = opened("scenes")
    model = known.in_torch("a test")
    preprocess = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), resize=side + 8, crop=side)
    card = msgspec.structs.replace(model.card, preprocess=preprocess, activation=network.activation)
    return Local(known.entry, replace(model, card=card, network=network), known.settings)


def maps(network: Network, layer: str, frontier: Frontier, target: torch.Tensor) -> torch.Tensor:
    cut = network.cut_at(layer)
    return gradcam(cut.layer.layout.to_grid(frontier.features), cut.head.gradients(frontier, Logit(target)))


def check(network: Network, layer: str, file: Path, side: int = SIDE) -> onnxruntime.InferenceSession:
    """Scores and maps to 1e-4 of the largest, for batches of 1, 2 and 5, of several classes and of the top-1 class.

    The maps of an image are compared if those of the service itself hold still when its feature maps are moved by
    rounding: elsewhere a ReLU's input is so near zero that two right answers may differ. Most images must be compared.
    """
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    compared = []
    for count in (1, 2, 5):
        x = images(count, side, seed=count)
        target = 3 * torch.arange(count) % network.classes
        target[-1] = -1
        scores, heatmap = map(
            torch.from_numpy, session.run(["scores", "heatmap"], {"image": x.numpy(), "target": target.numpy()})
        )
        with torch.no_grad():
            frontier = network.cut_at(layer).frontier(x)
            features = frontier.features
        expected = network.scores(x).detach()
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
        chosen = torch.where(target < 0, expected.argmax(1), target)
        explained = maps(network, layer, frontier, chosen)
        assert heatmap.shape == explained.shape
        assert heatmap.dtype == torch.float32
        noise = torch.randn((8, *features.shape), generator=torch.Generator().manual_seed(0))
        moved = [
            maps(network, layer, frontier.having(features + 5e-6 * features.abs().max() * n), chosen) for n in noise
        ]
        largest = explained.amax()
        assert largest > 1e-6
        steady = torch.stack([(m - explained).abs().amax((1, 2)) for m in moved]).amax(0) < 1e-4 * largest
        torch.testing.assert_close(heatmap[steady], explained[steady], rtol=0, atol=1e-4 * float(largest))
        compared += [bool(explained[row].any()) for row in range(count) if steady[row]]
    assert sum(compared) >= 4
    return session


def exported(network: Network, file: Path, layer: str = "auto", side: int = SIDE) -> Path:
    exporting.export(local(network, side), layer, file)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "model.onnx"
    yield path
    path.unlink(missing_ok=True)  # VGG's has half a gigabyte


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("scenes", "auto"),
        pytest.param("resnet18", "auto", marks=LARGE),
        pytest.param("squeezenet1_1", "auto", marks=LARGE),
        pytest.param("vgg11", "auto", marks=LARGE),
        pytest.param("resnet18", "layer3", marks=LARGE),
        pytest.param("alexnet", "auto", marks=LARGE),
        pytest.param("densenet121", "auto", marks=LARGE),
        pytest.param("mobilenet_v2", "auto", marks=LARGE),
        pytest.param("efficientnet_b0", "auto", marks=LARGE),
        pytest.param("googlenet", "auto", marks=LARGE),
        pytest.param("convnext_tiny", "auto", marks=LARGE),
        pytest.param("convnext_tiny", "features.5", marks=LARGE),
        pytest.param("shufflenet_v2_x0_5", "auto", marks=LARGE),
        pytest.param("regnet_y_400mf", "auto", marks=LARGE),
        pytest.param("mnasnet0_5", "auto", marks=LARGE),
    ],
)
def test_onnx_runtime_answers_as_the_service_does(name: str, layer: str, file: Path):
    network = Network(module(name), (3, SIDE, SIDE))
    check(network, layer, exported(network, file, layer))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large", "vit_b_16", "swin_t", "maxvit_t"])
def test_architectures_that_want_224_pixels(name: str, file: Path):
    side = 96 if name.startswith("mobilenet") else 224
    module = calibrated(varied(torchvision.models.get_model(name, num_classes=CLASSES)), side)
    network = Network(module, (3, side, side))
    check(network, "auto", exported(network, file, side=side), side)


class Everything(nn.Module):
    """A head of most operators whose gradient had to be written."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = nn.Sequential(
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.SiLU(), nn.ZeroPad2d((1, 0, 0, 1)),
            nn.MaxPool2d(3, 2, 1), nn.GELU(), nn.AvgPool2d(2, 2, 1), nn.Hardswish(), nn.ConvTranspose2d(8, 8, 3, 2),
            nn.GroupNorm(2, 8), nn.ReLU6(), nn.AdaptiveAvgPool2d(4), nn.ELU(), nn.Hardsigmoid(),
        )  # fmt: skip
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.middle(self.stem(x)).flatten(2).transpose(1, 2)
        tokens = self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.fc((tokens * tokens.softmax(2)).mean(1).tanh())


@pytest.mark.exhaustive  # each operator by itself is in explain/test_lowering.py
@pytest.mark.skipif(torch.__version__ < (2, 12), reason="torch fixes the batch size of attention")
def test_a_head_of_many_operators(file: Path):
    torch.manual_seed(0)
    network = Network(calibrated(varied(Everything()), 24), (3, 24, 24), layer="stem")
    check(network, "stem", exported(network, file, "stem", 24), 24)


def test_where_several_cells_are_a_windows_maximum_the_first_is_it(file: Path):
    # A · mask is 1 everywhere, so every window is a tie; the mask, which differs, is the gradient at the winner.
    class Ties(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)
            self.conv.weight = nn.Parameter(torch.eye(3)[:, :, None, None])
            exponents = torch.randint(-3, 4, (3, 8, 8), generator=torch.Generator().manual_seed(0))
            self.register_buffer("mask", 2.0**exponents)
            self.fc = nn.Linear(3 * 4 * 4, 5)

        def forward(self, x):
            return self.fc(nn.functional.max_pool2d(self.conv(x) * self.mask, 3, 2, 1).flatten(1))

    torch.manual_seed(0)
    made = Ties()
    network = Network(made, (3, 8, 8), layer="conv")
    x = (1 / made.mask).expand(4, -1, -1, -1)
    target = torch.tensor([0, 1, 2, -1])
    session = onnxruntime.InferenceSession(exported(network, file, "conv", 8))
    scores, heatmap = session.run(None, {"image": x.numpy(), "target": target.numpy()})
    target[-1] = int(scores[-1].argmax())
    expected = maps(network, "conv", network.predict(x)[0], target)
    assert expected.any()
    np.testing.assert_allclose(heatmap, expected, rtol=0, atol=1e-5 * float(expected.max()))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gradcam export scenes`."""
    folder = tmp_path_factory.mktemp("export")
    done = gradcam_command("export", "scenes", "-o", folder / "scenes.onnx")
    assert done.returncode == 0, done.stderr
    program = folder / "scenes.py"
    assert done.stdout == f"scenes@1 and its Grad-CAM → {folder / 'scenes.onnx'}, and how to ask it → {program}\n"
    assert done.stderr == ""
    assert {path.name for path in folder.iterdir()} == {"scenes.onnx", "scenes.py"}
    return folder / "scenes.onnx"


def test_who_wants_to_serve_it_is_sent_to_what_it_was_exported_from(scenes: Path):
    said = r"scenes\.onnx is what gradcam export wrote of scenes@1"
    for preprocess in (None, "imagenet"):
        given = Arguments(model_dir=scenes.parent, preprocess=preprocess)
        with pytest.raises(BadSettings, match=said), arranged(given):
            pass
    with pytest.raises(ModelFailed, match=said):
        onnx_file.read(scenes, None)


def test_the_file_has_forward_operators_of_the_standard_alone(scenes: Path):
    model = onnx.load(scenes)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    assert not [node.op_type for node in model.graph.node if re.search("Grad|Backward|Loss|Dropout", node.op_type)]
    assert not [a for node in model.graph.node for a in node.attribute if a.name == "training_mode" and a.i]
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "image": ["batch", 3, 128, 128],
        "target": ["batch"],
        "scores": ["batch", 12],
        "heatmap": ["batch", 16, 16],
    }


def test_the_file_tells_nothing_of_the_machine_that_made_it(scenes: Path):
    assert str(ROOT).encode() not in scenes.read_bytes()
    assert b"site-packages" not in scenes.read_bytes()


def test_the_metadata_say_what_a_caller_needs(scenes: Path):
    metadata = onnxruntime.InferenceSession(scenes).get_modelmeta().custom_metadata_map
    card = opened("scenes").model.card
    assert metadata == {
        "model": "scenes@1",
        "digest": card.digest,
        "method": "gradcam",
        "layer": "layer3",
        "activation": "sigmoid",
        "labels": json.dumps(SHAPES),
        "input": '{"channels": "rgb", "depth": 8}',
        "input_size": "[128, 128]",
        "mean": "[0.5, 0.5, 0.5]",
        "std": "[0.25, 0.25, 0.25]",
        "pad": "128",
        "interpolation": "bilinear",
    }


WITHOUT_TORCH = """
import json, sys
from pathlib import Path
import numpy as np, onnxruntime
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import prepare
session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
known = {name: json.loads(metadata[name]) for name in ("mean", "std", "pad", "labels")}
fill = tuple(round(255 * value) for value in known["mean"])
picture = decode(Path(sys.argv[2]).read_bytes(), 10**8)
view = prepare(picture, pad=known["pad"], interpolation=metadata["interpolation"], fill=fill)
image = ((view.pixels / 255 - known["mean"]) / known["std"]).transpose(2, 0, 1).astype(np.float32)
target = np.array([known["labels"].index(label) for label in sys.argv[4:]] + [-1])
scores, heatmap = session.run(None, {"image": np.stack([image] * len(target)), "target": target})
assert "torch" not in sys.modules
np.savez(sys.argv[3], scores=scores, heatmap=heatmap)
"""


def test_a_scene_is_explained_without_torch(scenes: Path, tmp_path: Path):
    drawn = scene(900034, objects=2, size=256)
    labels = [SHAPES[thing.label] for thing in drawn.objects]
    picture, answers = tmp_path / "scene.png", tmp_path / "answers.npz"
    Image.fromarray(drawn.image).save(picture)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_TORCH, scenes, picture, answers, *labels]
    subprocess.run(list(map(str, command)), check=True, timeout=PATIENCE, env=environment)
    given = np.load(answers)
    known = opened("scenes")
    for row, target in enumerate([*labels, None]):
        options = ExplainOptions(output=["map"], target=None if target is None else [target])
        (expected,) = known.explain(picture.read_bytes(), options).explanations
        expected_map = expected.map
        assert expected_map.any()
        np.testing.assert_allclose(given["heatmap"][row], expected_map, rtol=0, atol=1e-4)
        assert given["scores"][row, expected.target.index] == pytest.approx(expected.target.logit, abs=1e-4)


def test_a_class_that_there_is_not_is_an_error(scenes: Path):
    session = onnxruntime.InferenceSession(scenes)
    with pytest.raises(Exception, match="12"):
        session.run(None, {"image": np.zeros((1, 3, 128, 128), np.float32), "target": np.array([12])})


def small(middle: nn.Module) -> Network:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), middle, nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 5))
    return Network(net, (3, 8, 8), layer="2")


def test_a_model_of_bands_takes_as_many_and_the_metadata_say_of_which_depth(file: Path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 5))
    known = local(Network(net, (4, 8, 8), layer="2"), 8)
    card = msgspec.structs.replace(known.model.card, input=Takes("", 4, 16))
    exporting.export(Local(known.entry, replace(known.model, card=card), known.settings), "auto", file)
    session = onnxruntime.InferenceSession(file)
    assert session.get_inputs()[0].shape == ["batch", 4, 8, 8]
    assert session.get_modelmeta().custom_metadata_map["input"] == '{"channels": 4, "depth": 16}'


def test_an_operator_that_onnx_lacks_is_named(file: Path):
    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(UnsupportedMethod, match=r"ONNX has no \w+\.bessel_j0"):
        exported(small(Bessel()), file, side=8)
    assert not list(file.parent.iterdir())


def test_a_layer_that_there_is_not(file: Path):
    with pytest.raises(UnknownLayer, match="attic"):
        exported(small(nn.ReLU()), file, "attic", side=8)


@pytest.mark.parametrize("what", ["scores", "maps"])
def test_a_file_that_answers_otherwise_is_not_kept(what: str, file: Path, monkeypatch: pytest.MonkeyPatch):
    lower = exporting.lower

    class Wrong(nn.Module):
        def __init__(self, right: nn.Module):
            super().__init__()
            self.right = right

        def forward(self, image, target):
            scores, heatmap = self.right(image, target)
            return (scores * 1.001, heatmap) if what == "scores" else (scores, heatmap * 1.001)

    monkeypatch.setattr(exporting, "lower", lambda cut: Wrong(lower(cut)))
    with pytest.raises(UnsupportedMethod, match=f"graph's {what} differ"):
        exported(small(nn.Tanh()), file, side=8)
    assert not list(file.parent.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing", "-o", "x.onnx"], 2, f"there are: {', '.join(EMBEDDED_MODELS)}"),
        (["scenes", "-o", "x.pt"], 2, ".onnx"),
        (["scenes", "-o", "/nonexistent/x.onnx"], 1, "/nonexistent"),
        (["scenes", "--layer", "attic", "-o", "x.onnx"], 2, "attic"),
        (["scenes"], 2, "-o"),
    ],
)
def test_an_error_is_one_line_and_a_fitting_exit_code(arguments: list[str], code: int, said: str):
    result = gradcam_command("export", *arguments)
    assert result.returncode == code
    assert said in result.stderr
    assert result.stderr.startswith("gradcam: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
