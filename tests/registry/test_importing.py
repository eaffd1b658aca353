"""gradcam import: a checkpoint or a model file in, a tried version out, and nothing of one that fails."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
import safetensors.torch
import torch
import yaml
from onnx.external_data_helper import convert_model_to_external_data
from torch import nn
from torch.testing import assert_close

from command import gradcam
from gradcam_service.errors import BadOption
from gradcam_service.registry.importing import Import, import_model, put
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry

CODE = """
from pathlib import Path

import torch
from torch import nn

def net(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

def slow(folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "theirs").touch()
    return net()

def none():
    raise RuntimeError("no GPU")
"""
SMALL = ("--set", "preprocess={resize: [32, 48], mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}")


def net(classes: int = 3, seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    ).eval()


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the operator's code: one, for a module is imported from one place in a process."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "importednets.py").write_text(CODE)
    return folder


@pytest.fixture
def place(tmp_path: Path, code: Path) -> Path:
    """A folder with code, a checkpoint of three classes, and labels."""
    (tmp_path / "code").symlink_to(code)
    torch.save({"state_dict": {f"module.{name}": one for name, one in net().state_dict().items()}}, tmp_path / "w.pth")
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n")
    return tmp_path


def imported(place: Path, file: str, *options: object, to: str = "birds/1", architecture: str = "importednets:net"):
    own = ("--architecture", architecture) if architecture else ()
    target = ("--to", place / "models" / to)
    return gradcam("import", place / file, *own, *target, *options, python_path=(place / "code").resolve())


def served(place: Path, to: str = "birds/1") -> LoadedModel:
    name, version = to.split("/")
    return load(
        Entry(name, version, LocalPlace(place / "models" / to)), torch.device("cpu"), (place / "code").resolve()
    )


def left(place: Path) -> set[str]:
    return {path.name for path in place.rglob("*") if "__pycache__" not in str(path)}


def test_a_version_says_what_it_is_and_answers_as_the_network(place: Path):
    done = imported(place, "w.pth", "--labels", place / "classes.txt", *SMALL)
    assert done.returncode == 0, done.stderr
    took, built, sees, wrote, serve = done.stdout.splitlines()
    assert "4 tensors of w.pth, state_dict.module" in took
    assert "importednets:net, 3 classes: cat, dog, bird" in built
    assert "32×48" in sees
    assert all(name in wrote for name in ("labels.txt", "model.safetensors", "model.yaml"))
    assert f"GRADCAM_MODEL_REPOSITORY={place / 'models'}" in serve
    folder = place / "models" / "birds" / "1"
    assert {path.name for path in folder.iterdir()} == {"labels.txt", "model.safetensors", "model.yaml"}
    spec = yaml.safe_load((folder / "model.yaml").read_text())
    assert spec["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert spec["preprocess"]["resize"] == [32, 48]
    assert safetensors.torch.load_file(folder / "model.safetensors").keys() == net().state_dict().keys()
    x = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert_close(served(place).network.scores(x), net()(x), rtol=0, atol=1e-5)


def test_classes_without_labels_are_inferred_from_the_head_and_are_numbers(place: Path):
    torch.save(torch.nn.DataParallel(net(5)).state_dict(), place / "w5.pth")
    refused = imported(place, "w5.pth", *SMALL)
    assert "the head has 5 classes" in refused.stderr
    assert "have importednets:net build 5" in refused.stderr
    done = imported(place, "w5.pth", *SMALL, "--set", "options.classes=5")
    assert done.returncode == 0, done.stderr
    assert served(place).card.labels == ["0", "1", "2", "3", "4"]


def test_an_architecture_of_timm_is_built_with_the_classes_of_the_head(place: Path):
    import timm

    torch.save({"model": timm.create_model("test_resnet", num_classes=4).half().state_dict()}, place / "t.pth")
    done = imported(place, "t.pth", architecture="timm/test_resnet")
    assert done.returncode == 0, done.stderr
    assert "4 classes: 0, 1, 2, 3" in done.stdout
    assert served(place).card.preprocess.crop == 160  # as timm's own configuration says


def test_one_of_two_is_taken_when_it_is_named(place: Path):
    torch.save({"state_dict": net().state_dict(), "state_dict_ema": net(seed=2).state_dict()}, place / "two.pth")
    refused = imported(place, "two.pth", *SMALL)
    assert "'state_dict' and 'state_dict_ema' would both fit" in refused.stderr
    assert imported(place, "two.pth", *SMALL, "--take", "state_dict_ema").returncode == 0
    x = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert_close(served(place).network.scores(x), net(seed=2)(x), rtol=0, atol=1e-5)


def test_a_version_that_is_there_stays_unless_it_is_to_be_replaced(place: Path):
    assert imported(place, "w.pth", *SMALL).returncode == 0
    before = (place / "models/birds/1/model.yaml").read_text()
    refused = imported(place, "w.pth", *SMALL, "--set", "batch=4")
    assert (refused.returncode, "is there; --replace" in refused.stderr) == (2, True)
    assert (place / "models/birds/1/model.yaml").read_text() == before
    assert imported(place, "w.pth", *SMALL, "--set", "batch=4", "--replace").returncode == 0
    assert served(place).card.batch == 4
    assert {path.name for path in (place / "models" / "birds").iterdir()} == {"1"}


@pytest.mark.parametrize(
    ("file", "architecture", "options", "says"),
    [
        ("w.pth", "importednets:net", ("--set", "preprocess.crop=0"), "sizes of at least 1"),
        ("w.pth", "importednets:net", ("--set", "layer=attic"), "no layer 'attic'"),
        ("w.pth", "importednets:net", ("--set", "labels=[a, b]"), "model.safetensors has 3 classes, labels.txt 2"),
        ("w.pth", "importednets:net", ("--set", "layer"), "--set takes members of model.yaml"),
        ("w.pth", "importednets:net", ("--set", "a=["), "is no YAML"),
        ("w.pth", "importednets:net", ("--set", "labels=classes.txt"), "of a file, --labels FILE"),
        ("w.pth", "importednets:net", ("--set", "labels="), "labels are a list"),
        ("w.pth", "importednets:net", ("--set", "labels.x=1"), "labels has no members"),
        ("w.pth", "importednets:net", ("--set", "source.x=1"), "source has no members"),
        ("w.pth", "importednets:net", ("--set", "a=2026-02-30"), "is no YAML"),
        ("w.pth", "importednets:none", (), "raised RuntimeError: no GPU"),
        ("w.pth", "importednets:nowhere", (), "no function 'nowhere'"),
        ("w.pth", "torchvision/resnet18", (), "doesn't fit torchvision/resnet18"),
        ("w.pth", "torchvision/resnet999", (), "no classification architecture 'resnet999'"),
        ("w.pth", "resnet18", (), "--architecture is SOURCE/NAME"),
        ("w.pth", "onnx/resnet18", (), "--architecture is SOURCE/NAME"),
        ("w.pth", "", (), "holds weights without an architecture"),
        ("page.html", "", (), "is a web page"),
        ("page.html", "importednets:net", (), "are a web page"),
        ("evil.pth", "importednets:net", (), "never pickled code"),
    ],
)  # fmt: skip
def test_nothing_is_left_of_what_fails(place: Path, file: str, architecture: str, options, says: str):
    (place / "page.html").write_text("<html>sign in</html>")
    torch.save(net(), place / "evil.pth")
    before = left(place)
    done = imported(place, file, *options, architecture=architecture)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert left(place) == before


@pytest.mark.parametrize("to", [".hidden/1", "birds/.1", "birds@home/1", "birds/1@2"])
def test_a_version_that_no_service_would_see_is_refused(place: Path, to: str):
    assert "hides neither name nor version; in neither is an @" in imported(place, "w.pth", to=to).stderr


@pytest.mark.parametrize("to", ["models/pets", "m/p"])
def test_a_version_that_was_forgotten_is_asked_for_before_anything_is_read(to):
    with pytest.raises(BadOption, match=f"{to} has no version: .*{to}/1 would be one"):
        import_model(Import(file=Path("nowhere.pth"), to=Path(to)))


def test_a_version_that_comes_while_another_is_tried_stays(place: Path):
    theirs = ("--set", f"options.folder={place / 'models/slow/1'}")
    refused = imported(place, "w.pth", *SMALL, *theirs, architecture="importednets:slow", to="slow/1")
    assert (refused.returncode, "is there; --replace" in refused.stderr) == (2, True)
    assert [path.name for path in (place / "models/slow/1").iterdir()] == ["theirs"]


def test_a_version_that_cannot_be_replaced_is_where_it_was(tmp_path: Path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mine").touch()
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "vanished", tmp_path / "1", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "mine"]


def test_labels_are_the_text_that_is_written(place: Path):
    done = imported(place, "w.pth", *SMALL, "--set", "labels=[no, '[x]', 007]")
    assert done.returncode == 0, done.stderr
    assert served(place).card.labels == ["no", "[x]", "007"]


def test_a_task_brings_its_own_activation(place: Path):
    done = imported(place, "w.pth", *SMALL, "--set", "task=regression")
    assert done.returncode == 0, done.stderr
    assert (served(place).card.task, served(place).card.activation) == ("regression", "identity")


def test_where_to_serve_from_is_said_in_full(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place)
    done = gradcam(
        "import", "w.pth", "--architecture", "importednets:net", "--to", "birds/1", *SMALL,
        python_path=(place / "code").resolve(),
    )  # fmt: skip
    assert f"GRADCAM_MODEL_REPOSITORY={place} gradcam serve, and ask for model=birds@1" in done.stdout


def test_an_onnx_file_is_imported_as_one_file_with_the_size_that_it_says(place: Path):
    torch.onnx.export(net(), (torch.zeros(1, 3, 64, 64),), place / "m.onnx", dynamo=True)
    model = onnx.load(place / "m.onnx")
    convert_model_to_external_data(model, size_threshold=0, location="m.data")
    onnx.save(model, place / "m.onnx")
    done = imported(place, "m.onnx", "--labels", place / "classes.txt", architecture="")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (place / "models/birds/1").iterdir()} == {"labels.txt", "model.onnx", "model.yaml"}
    model = served(place)
    assert (model.card.preprocess.crop, model.card.preprocess.resize) == (64, 73)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(model.network.scores(x), net()(x), rtol=0, atol=1e-4)


def test_an_onnx_file_whose_weights_are_inputs_or_constants_is_one_file_of_its_size(place: Path):
    torch.onnx.export(net(), (torch.zeros(1, 3, 64, 64),), place / "m.onnx", dynamo=True, external_data=False)
    model = onnx.load(place / "m.onnx")
    graph = model.graph
    first, *rest = graph.initializer
    (place / "m.data").write_bytes(first.raw_data)
    first.ClearField("raw_data")
    first.data_location = onnx.TensorProto.EXTERNAL
    first.external_data.add(key="location", value="m.data")
    graph.node.insert(0, onnx.helper.make_node("Constant", [], [first.name], value=first))
    graph.initializer.remove(first)
    graph.input.extend(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in rest)
    onnx.save(model, place / "m.onnx")
    done = imported(place, "m.onnx", architecture="")
    assert done.returncode == 0, done.stderr
    assert served(place).card.preprocess.crop == 64


class Answerer(nn.Module):
    """Answers yes or no to a question about a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
        self.words = nn.Embedding(5, 4)
        self.answers = nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.answers(self.cnn(image).mean((2, 3)) * self.words(question).mean(1))
        return scores


def test_a_vocabulary_is_not_mixed_up_with_labels_whatever_it_is_called(place: Path):
    batch = torch.export.Dim("batch")
    given = (torch.zeros(2, 3, 224, 224), torch.zeros(2, 3, dtype=torch.int64))
    program = torch.export.export(Answerer().eval(), given, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(program, place / "m.pt2")
    (place / "answers.txt").write_text("yes\nno\n")
    (place / "labels.txt").write_text("<pad>\nis\nit\na\nbird\n")
    options = ("--labels", place / "answers.txt", "--tokenizer", place / "labels.txt", "--set", "task=vqa")
    done = imported(place, "m.pt2", *options, "--set", "length=3", architecture="")
    assert done.returncode == 0, done.stderr
    card = served(place).card
    assert card.labels == ["yes", "no"]
    assert card.text is not None
    assert card.text.vocabulary == ["<pad>", "is", "it", "a", "bird"]


def test_a_program_of_torch_export_is_imported(place: Path):
    batch = torch.export.Dim("batch")
    program = torch.export.export(net(), (torch.zeros(2, 3, 224, 224),), dynamic_shapes=({0: batch},))
    torch.export.save(program, place / "m.pt2")
    done = imported(place, "m.pt2", "--labels", place / "classes.txt", architecture="")
    assert done.returncode == 0, done.stderr
    assert served(place).card.source == "pt2"
