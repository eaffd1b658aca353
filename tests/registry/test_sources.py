"""Models of timm and of the operator's own code, and the check of a model by its own sample."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from lazily import Lazily
from PIL import Image
from torch import nn
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.images.geometry import prepare
from gradcam_service.registry import sources
from gradcam_service.registry.built import build
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry, parse_spec
from gradcam_service.registry.spec import Spec
from gradcam_service.registry.threads import half_of_the_threads
from gradcam_service.zoo.scenes import CLASSES, scene

timm = Lazily("timm")
CPU = torch.device("cpu")
SMALL = "source: timm\narchitecture: test_resnet\nweights: {}\n"
PREPROCESS = "preprocess: {{pad: 32, mean: [0, 0, 0], std: [1, 1, 1]}}\n"


def loaded(folder: Path, text: str, python_path: Path | None = None) -> LoadedModel:
    (folder / "model.yaml").write_text(text)
    return load(Entry("mine", "1", LocalPlace(folder)), CPU, python_path)


def test_every_source_has_its_module():
    names = {path.stem for path in Path(sources.__file__).parent.glob("*.py")} - {"__init__"}
    assert names == set(Spec.model_json_schema()["properties"]["source"]["enum"])


def test_a_timm_model_with_random_weights_is_timms(tmp_path: Path):
    model = loaded(tmp_path, SMALL.format("random:3"))
    torch.manual_seed(3)
    module = timm.create_model("test_resnet").eval()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    picture = Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)
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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield root
    server.shutdown()
    server.server_close()


def test_weights_that_timm_publishes_are_fetched_and_checked(tmp_path: Path, hub: Path):
    torch.manual_seed(8)
    module = timm.create_model("test_resnet").eval()
    file = hub / "timm" / "test_resnet.r160_in1k" / "resolve" / "main" / "model.safetensors"
    file.parent.mkdir(parents=True)
    safetensors.torch.save_file(module.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model = loaded(tmp_path, SMALL.format("r160_in1k") + f"sha256: {digest}\n")
    x = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert_close(model.network.predict(x)[1], module(x), rtol=0, atol=1e-4)
    with pytest.raises(ModelFailed, match=r"model\.safetensors need a sha256"):
        loaded(tmp_path, SMALL.format("r160_in1k"))
    with pytest.raises(ModelFailed, match="not the expected 0000"):
        loaded(tmp_path, SMALL.format("r160_in1k") + f"sha256: '{'0' * 64}'\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            SMALL.format("random:0").replace("test_resnet", "resnet999"),
            "timm has no architecture 'resnet999'",
        ),
        (SMALL.format("nowhere_in1k"), "'nowhere_in1k': no such file"),
        (SMALL.format("random:0") + "labels: none.txt\n", r"none\.txt can't be read"),
    ],
)
def test_what_timm_can_not_build_is_refused_by_name(tmp_path: Path, text: str, says: str):
    with pytest.raises(ModelFailed, match=says):
        loaded(tmp_path, text)


CODE = """\
from os import abort
from pathlib import Path
import torch
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def nothing():
    return 3

def wide(channels, classes=2):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )

class Teller(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 1)
        self.built = torch.get_num_threads()

    def forward(self, images):
        scores = torch.relu(self.convolution(images)).mean((2, 3))
        return scores * 0.0 + scores.new_tensor([self.built, torch.get_num_threads()])

def gives_up():
    raise SystemExit("no GPU, no model")

def stumbles():
    raise KeyError("weights")

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
    (root / "exits.py").write_text("raise SystemExit(3)\n")
    (root / "json.py").write_text("raise SystemError('imported before it was checked')\n")
    (root / "hidden").mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "outside.py"
    elsewhere.write_text("raise SystemError('imported before it was checked')\n")
    (root / "outside.py").symlink_to(elsewhere)
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


def test_no_installed_module_is_imported_to_find_out_that_it_may_not_be(tmp_path: Path, code: Path):
    for name in ("this", "antigravity"):
        with pytest.raises(ModelFailed, match="only code in that folder may run"):
            loaded(tmp_path, OWN.format(f"{name}:tiny"), code)
        assert name not in sys.modules


def test_a_folder_that_holds_python_itself_is_none_of_an_operators_code(tmp_path: Path):
    for root in (Path("/"), Path(os.__file__).parent):
        with pytest.raises(ModelFailed, match="holds Python itself; name a folder of your own code alone"):
            loaded(tmp_path, OWN.format("os:abort"), root)


def test_the_builder_gets_the_options_of_model_yaml(tmp_path: Path, code: Path):
    model = loaded(tmp_path, OWN.format("my_models.small:wide") + "options: {channels: 6, classes: 5}\n", code)
    assert model.network.classes == 5
    assert {layer.shape[0] for layer in model.card.layers} == {6}
    vit = SMALL.replace("test_resnet", "vit_tiny_patch16_224").format("random:0")
    pictures = "preprocess: {pad: 64, mean: [0, 0, 0], std: [1, 1, 1]}\n"
    with pytest.raises(ModelFailed, match=r"Input height \(64\) doesn't match model \(224\)"):
        loaded(tmp_path, vit + pictures)
    assert loaded(tmp_path, vit + pictures + "options: {img_size: 64, depth: 2}\n").card.preprocess.pad == 64


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("source: timm\noptions: {checkpoint_path: /etc/passwd}", "checkpoint_path is none of the architecture's"),
        ("source: timm\noptions: {pretrained: true}", "pretrained is none of the architecture's"),
        ("source: torchvision\noptions: {weights: DEFAULT}", "weights is decided by weights"),
        ("source: torchvision\noptions: {depth: 3}", "unexpected keyword argument 'depth'.*must fit each other"),
        ("source: zoo\noptions: {depth: 3}", "source zoo takes no options"),
        ("source: onnx\noptions: {depth: 3}", "source onnx takes no"),
    ],
)
def test_options_that_are_none_of_the_builders_are_refused(tmp_path: Path, text: str, says: str):
    architecture = "" if "onnx" in text else "architecture: test_resnet\n"
    if "torchvision" in text:
        architecture = "architecture: squeezenet1_1\n"
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(tmp_path, f"{text}\n{architecture}weights: {'m.onnx' if 'onnx' in text else 'random:0'}\n")
    assert "\n" not in caught.value.detail


def write_factory(root: Path, factor: int) -> None:
    (root / "changing_parts.py").write_text(f"FACTOR = {factor}\n")


def test_code_that_changed_is_run_anew_and_has_another_digest(tmp_path: Path):
    """Here in a module that the factory's own module imports, within the second, and of the same size."""
    root = tmp_path / "code"
    root.mkdir()
    write_factory(root, 2)
    (root / "changing.py").write_text(
        "import torch\nfrom torch import nn\nfrom changing_parts import FACTOR\n\n"
        "class Scaled(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.c = nn.Conv2d(3, 2, 1, bias=False)\n        nn.init.ones_(self.c.weight)\n"
        "    def forward(self, x):\n        return FACTOR * self.c(x).relu().mean((2, 3))\n"
    )
    text, ones = OWN.format("changing:Scaled"), torch.ones(1, 3, 32, 32)

    def answer() -> tuple[float, str]:
        model = loaded(tmp_path, text, root)
        return model.network.scores(ones)[0, 0].item(), model.card.digest

    first = answer()
    module = sys.modules["changing"]
    assert answer() == first
    assert sys.modules["changing"] is module  # what has not changed is not imported twice
    write_factory(root, 5)
    second = answer()
    assert (first[0], second[0]) == (6, 15)
    assert second[1] != first[1]
    write_factory(root, 2)
    assert answer() == first


def test_the_card_says_what_computes(tmp_path: Path, code: Path):
    card = loaded(tmp_path, OWN.format("my_models.small:tiny"), code).card
    assert (card.runtime, card.precision, card.torch) == ("eager", "float32", torch.__version__)


def test_inputs_are_transformed_for_operators_weights_as_model_yaml_says(tmp_path: Path, caplog):
    """A checkpoint fine-tuned from published weights scores as it did where it was trained, or somebody is warned."""
    torch.manual_seed(0)
    own = {"init_weights": False, "aux_logits": False}
    module = torchvision.models.googlenet(transform_input=True, num_classes=2, **own).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    normalisations = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        for part in normalisations:
            part.train().momentum = 1.0
        module(images)  # so that signals get through
        expected = module.eval()(images)
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "labels.txt").write_text("yes\nno\n")
    text = "source: torchvision\narchitecture: googlenet\nweights: w.safetensors\nlabels: labels.txt\n"
    text += "preprocess: {resize: [64, 64], mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.2]}\n"

    def scores(options: str) -> torch.Tensor:
        spec = parse_spec(f"{text}options: {{init_weights: false, aux_logits: false{options}}}\n", "model.yaml")
        with torch.no_grad():
            return build(ModelFolder(spec, tmp_path)).module.eval()(images)

    unsaid = scores("")
    assert "say options: {transform_input: true} or false" in caplog.text
    caplog.clear()
    said = scores(", transform_input: true")
    assert "transform_input" not in caplog.text
    scale = expected.abs().max()
    assert (said - expected).abs().max() < 1e-4 * scale
    assert (unsaid - expected).abs().max() > 1e-2 * scale


def test_half_of_the_threads_check_a_model_and_no_other_thread_notices(tmp_path: Path, code: Path):
    own = torch.get_num_threads()
    with ThreadPoolExecutor(1) as another:
        torch.set_num_threads(4)
        try:
            assert another.submit(torch.get_num_threads).result() == 4
            teller = loaded(tmp_path, OWN.format("my_models.small:Teller"), code)
            scores = teller.network.predict(torch.zeros(1, 3, *teller.card.preprocess.input_size))[1]
            assert scores.tolist() == [[4, 2]]  # built for all of them, traced on half
            with pytest.raises(ModelFailed):
                loaded(tmp_path, OWN.format("my_models.small:gives_up"), code)
            assert torch.get_num_threads() == another.submit(torch.get_num_threads).result() == 4
            with half_of_the_threads():
                assert (torch.get_num_threads(), another.submit(torch.get_num_threads).result()) == (2, 4)
        finally:
            torch.set_num_threads(own)


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
        ("exits:tiny", "exits can't be imported.*SystemExit: 3"),
        ("hidden.gone:tiny", "there is no hidden.gone in"),
        ("outside:tiny", "outside leads out of .*only code in that folder may run"),
        ("json:tiny", "has the name of a module that is installed; rename it"),
        ("my_models.small:abort", "abort is imported by my_models.small; define a function there"),
        ("my_models.small:Path", "Path is imported by my_models.small; define a function there"),
        ("my_models.small:gives_up", "raised SystemExit: no GPU, no model; it must return a torch.nn.Module"),
        ("my_models.small:stumbles", "raised KeyError: 'weights'"),
        ("my_models.small:wide", "with no options raised TypeError: .*channels"),
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
