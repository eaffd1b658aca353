"""Models of timm and of the operator's own code, and the check of a model by its own sample."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.images.geometry import prepare
from gradcam_service.registry import sources
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry
from gradcam_service.registry.spec import Spec
from gradcam_service.zoo.scenes import CLASSES, scene

CPU = torch.device("cpu")
MOBILE = "source: timm\narchitecture: mobilenetv3_small_050\nweights: {}\n"
PREPROCESS = "preprocess: {{pad: 32, mean: [0, 0, 0], std: [1, 1, 1]}}\n"


def loaded(folder: Path, text: str, python_path: Path | None = None) -> LoadedModel:
    (folder / "model.yaml").write_text(text)
    return load(Entry("mine", "1", LocalPlace(folder)), CPU, python_path)


def test_every_source_has_its_module():
    names = {path.stem for path in Path(sources.__file__).parent.glob("*.py")} - {"__init__"}
    assert names == set(Spec.model_json_schema()["properties"]["source"]["enum"])


def test_a_timm_model_with_random_weights_is_timms(tmp_path: Path):
    model = loaded(tmp_path, MOBILE.format("random:3"))
    torch.manual_seed(3)
    module = timm.create_model("mobilenetv3_small_050").eval()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    picture = Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)
    transform = create_transform(**resolve_model_data_config(module), is_training=False)
    expected = transform(picture)[None]
    images = model.images([prepare(picture, **model.card.preprocess.geometry()).pixels])
    assert_close(images, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert_close(model.network.predict(images)[1], module(expected), rtol=0, atol=1e-4)
    assert model.card.source == "timm"
    assert model.card.labels[0].startswith("tench")
    assert model.card.memory == sum(tensor.nbytes for tensor in module.state_dict().values())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served at what huggingface_hub takes for its hub."""
    root = tmp_path / "hub"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    # Read by huggingface_hub when it is imported, so its constants are what has to change here.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield root
    server.shutdown()
    server.server_close()


def test_weights_that_timm_publishes_are_fetched_and_checked(tmp_path: Path, hub: Path):
    torch.manual_seed(8)
    module = timm.create_model("mobilenetv3_small_050").eval()
    file = hub / "timm" / "mobilenetv3_small_050.lamb_in1k" / "resolve" / "main" / "model.safetensors"
    file.parent.mkdir(parents=True)
    safetensors.torch.save_file(module.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model = loaded(tmp_path, MOBILE.format("lamb_in1k") + f"sha256: {digest}\n")
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert_close(model.network.predict(x)[1], module(x), rtol=0, atol=1e-4)
    with pytest.raises(ModelFailed, match=r"model\.safetensors need a sha256"):
        loaded(tmp_path, MOBILE.format("lamb_in1k"))
    with pytest.raises(ModelFailed, match="not the expected 0000"):
        loaded(tmp_path, MOBILE.format("lamb_in1k") + f"sha256: '{'0' * 64}'\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            MOBILE.format("random:0").replace("mobilenetv3_small_050", "resnet999"),
            "timm has no architecture 'resnet999'",
        ),
        (MOBILE.format("nowhere_in1k"), "'nowhere_in1k': no such file"),
        (MOBILE.format("random:0") + "labels: none.txt\n", r"none\.txt can't be read"),
    ],
)
def test_what_timm_can_not_build_is_refused_by_name(tmp_path: Path, text: str, says: str):
    with pytest.raises(ModelFailed, match=says):
        loaded(tmp_path, text)


CODE = """\
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def nothing():
    return 3

class Tree(nn.Module):
    pass

number = 5
"""
OWN = "source: python\narchitecture: {}\n" + PREPROCESS


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    (root / "my_models").mkdir()
    (root / "my_models" / "__init__.py").write_text("")
    (root / "my_models" / "small.py").write_text(CODE)
    (root / "broken_models.py").write_text("import nowhere_to_be_found\n")
    return root


def test_an_operators_factory_builds_with_or_without_weights(tmp_path: Path, code: Path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    model = loaded(tmp_path, OWN.format("my_models.small:tiny") + "weights: w.safetensors\n", code)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(model.network.predict(x)[1], module(x), rtol=0, atol=1e-6)
    assert model.card.labels == ["0", "1"]  # nothing names them
    without = loaded(tmp_path, OWN.format("my_models.small:tiny"), code)
    assert without.card.weights == "of the factory"
    torch.manual_seed(2)
    seeded = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    random = loaded(tmp_path, OWN.format("my_models.small:tiny") + "weights: random:2\n", code)
    with torch.no_grad():
        assert_close(random.network.predict(x)[1], seeded(x), rtol=0, atol=1e-6)


def test_an_operators_code_is_off_unless_enabled(tmp_path: Path):
    with pytest.raises(ModelFailed, match="source python is off; set GRADCAM_PYTHON_PATH"):
        loaded(tmp_path, OWN.format("my_models.small:tiny"))


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("os:getcwd", "only code in that folder may run"),
        ("torchvision.models:resnet18", "only code in that folder may run"),
        ("my_models.small", "must be package.module:factory"),
        ("'../evil:run'", "must be package.module:factory"),
        ("my_models.large:tiny", "can't be imported"),
        ("broken_models:tiny", "can't be imported.*nowhere_to_be_found"),
        ("my_models.small:huge", "has no function 'huge'"),
        ("my_models.small:number", "has no function 'number'"),
        ("my_models.small:nothing", r"returned int, not a torch\.nn\.Module"),
    ],
)
def test_code_that_is_not_the_operators_or_makes_no_module_is_refused(
    tmp_path: Path, code: Path, reference: str, says: str
):
    with pytest.raises(ModelFailed, match=says):
        loaded(tmp_path, OWN.format(reference), code)


def a_copy_of_scenes(folder: Path, sample: str) -> str:
    for file in ("labels.txt", "weights.safetensors"):
        shutil.copy(EMBEDDED / "scenes" / "1" / file, folder)
    Image.fromarray(scene(7, objects=1).image).save(folder / "sample.png")
    return (EMBEDDED / "scenes" / "1" / "model.yaml").read_text() + sample


def test_a_model_that_knows_its_own_sample_is_loaded(tmp_path: Path):
    shown = CLASSES[scene(7, objects=1).objects[0].label]
    text = a_copy_of_scenes(tmp_path, "")
    loaded(tmp_path, text + f"sample: {{image: sample.png, label: {shown}}}\n")
    loaded(tmp_path, text + f"sample: {{image: sample.png, label: {CLASSES.index(shown)}}}\n")
    other = next(name for name in CLASSES if name != shown)
    with pytest.raises(ModelFailed, match=f"sample sample.png is '{other}', but the model takes it for '{shown}'"):
        loaded(tmp_path, text + f"sample: {{image: sample.png, label: {other}}}\n")


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ("{image: gone.png, label: star}", "sample gone.png can't be read: No such file"),
        ("{image: labels.txt, label: star}", "sample labels.txt: .*JPEG, PNG"),
        ("{image: sample.png, label: dragon}", "no class is labelled 'dragon'"),
        ("{image: sample.png}", r"sample\.label: Field required"),
    ],
)
def test_a_sample_that_is_none_is_refused(tmp_path: Path, sample: str, says: str):
    with pytest.raises(ModelFailed, match=says):
        loaded(tmp_path, a_copy_of_scenes(tmp_path, f"sample: {sample}\n"))
