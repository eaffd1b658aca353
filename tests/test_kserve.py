"""``gradcam kserve``: what KServe puts into a folder, and the arguments that it appends."""

import os
import re
import resource
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from command import gradcam
from gradcam_service import kserve, serving
from gradcam_service.errors import BadSettings
from gradcam_service.kserve import Arguments, arranged
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import scan

YAML = "source: torchvision\narchitecture: resnet18\nweights: random:0\n"


def written(root, *paths):
    """The folder with a model.yaml, or something else, at each path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(YAML if path.endswith(".yaml") else "")
    return root


def keys(given):
    """What a service would serve."""
    with arranged(given) as chosen:
        return [entry.key for entry in scan([chosen["model_repository"]], embedded=False)]


@pytest.mark.parametrize(
    ("paths", "served"),
    [
        (["model.yaml"], ["birds@1"]),
        (["1/model.yaml", "2/model.yaml"], ["birds@1", "birds@2"]),
        (["sparrows/3/model.yaml"], ["birds@3"]),
        (["sparrows/3/model.yaml", "birds/1/model.yaml"], ["birds@1", "sparrows@3"]),
    ],
)
def test_the_model_is_served_under_the_name_of_the_inference_service(tmp_path, paths, served):
    assert keys(Arguments(model_name="birds", model_dir=written(tmp_path, *paths))) == served


def test_its_name_may_come_from_the_environment(tmp_path):
    with patch.dict(os.environ, INFERENCE_SERVICE_NAME="birds"):
        assert keys(Arguments(model_dir=written(tmp_path, "model.yaml"))) == ["birds@1"]
    assert keys(Arguments(model_dir=tmp_path)) == ["model@1"]


def test_files_of_a_linked_folder_are_read(tmp_path):
    written(tmp_path, "model.yaml", "labels.txt")
    with arranged(Arguments(model_name="birds", model_dir=tmp_path)) as chosen:
        (entry,) = scan([chosen["model_repository"]], embedded=False)
        assert entry.spec().architecture == "resnet18"
        assert dict(entry.stamps).keys() == {"model.yaml", "labels.txt"}


@contextmanager
def root_of_another_process(folder):
    """``/proc/<pid>/root`` of a process whose root a folder is."""
    heard, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(OSError):
            os.chroot(folder)
            os.write(telling, b"!")
            signal.pause()
        os._exit(0)
    os.close(telling)
    try:
        if not os.read(heard, 1):
            pytest.skip("no process may have another root here")
        yield Path("/proc", str(pid), "root")
    finally:
        os.close(heard)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("layout", ["model.yaml", "1/model.yaml", "sparrows/1/model.yaml"])
def test_a_modelcar_is_read_through_the_root_of_its_container(tmp_path, layout):
    written(tmp_path / "car" / "models", layout)
    with root_of_another_process(tmp_path / "car") as root:
        (tmp_path / "models").symlink_to(root / "models")
        with arranged(Arguments(model_name="birds", model_dir=tmp_path / "models")) as chosen:
            (entry,) = scan([chosen["model_repository"]], embedded=False)
            assert (entry.key, entry.spec().architecture) == ("birds@1", "resnet18")


def test_a_folder_may_be_named_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(written(tmp_path, "models/model.yaml"))
    assert keys(Arguments(model_dir=Path("models"))) == ["model@1"]


def exported(path, shape, **saved):
    """An ONNX file that takes images of this shape, and doubles the means of their channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["means"]),
            helper.make_node("Mul", ["means", "twos"], ["products"]),
            helper.make_node("Flatten", ["products"], ["scores"]),
        ],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.full((1, 3, 1, 1), 2, np.float32), "twos")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path, **saved)


@pytest.mark.parametrize(
    ("shape", "size"), [(["N", 3, 96, 128], [96, 128]), ([1, 96, 128, 3], [96, 128]), ([1, 1, 32, 32], [32, 32])]
)
def test_a_model_of_triton_takes_the_preprocessing_that_is_said(tmp_path, shape, size):
    exported(tmp_path / "1" / "model.onnx", shape)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "config.pbtxt").write_text('output [{name: "scores" dims: [3] label_filename: "labels.txt"}]')
    with arranged(Arguments(model_name="birds", model_dir=tmp_path, preprocess="imagenet")) as chosen:
        (entry,) = scan([chosen["model_repository"]], embedded=False)
        spec = entry.spec()
        assert (entry.key, spec.source, spec.labels) == ("birds@1", "onnx", "labels.txt")
        assert (entry.folder() / str(spec.weights)).is_file()
    assert spec.preprocess is not None
    assert [*spec.preprocess.input_size] == size
    assert spec.preprocess.mean == (0.485, 0.456, 0.406)


OUTSIDE = {"save_as_external_data": True, "size_threshold": 0}


def test_tensors_that_an_onnx_file_keeps_elsewhere_come_with_it(tmp_path):
    file = tmp_path / "model.onnx"
    (tmp_path / "tensors").mkdir()
    exported(file, ["N", 3, 32, 32], location="tensors/all.data", **OUTSIDE)
    given = Arguments(model_name="birds", model_dir=tmp_path, preprocess="imagenet")
    with arranged(given) as chosen:
        (entry,) = scan([chosen["model_repository"]], embedded=False)
        model = load(entry, torch.device("cpu"))
        scores = model.network.scores(torch.full((1, 3, 32, 32), 0.25))
    np.testing.assert_allclose(scores, [[0.5, 0.5, 0.5]], rtol=1e-6)
    (tmp_path / "tensors" / "all.data").rename(tmp_path / "tensors" / "al.data")
    refuse(given, r"model\.onnx names tensors/all\.data, which is not there")


@pytest.mark.parametrize("path", ["model.onnx", "birds/1/model.onnx", "1/model.onnx/model.onnx"])
def test_labels_are_those_of_the_nearest_configuration(tmp_path, path):
    exported(tmp_path / path, ["N", 3, 32, 32])
    folder = tmp_path / ("birds" if path.startswith("birds") else "")
    (folder / "config.pbtxt").write_text("# label_filename: 'none.txt'\noutput { label_filename: 'labels.txt' }")
    given = Arguments(model_name="birds", model_dir=tmp_path, preprocess="imagenet")
    refuse(given, r"config\.pbtxt names labels\.txt, which is not there")
    (folder / "labels.txt").write_text("a\nb\nc\n")
    with arranged(given) as chosen:
        (entry,) = scan([chosen["model_repository"]], embedded=False)
        assert (entry.folder() / str(entry.spec().labels)).read_text() == "a\nb\nc\n"


@pytest.mark.parametrize("name", ["../labels.txt", "/etc/hostname", "links", "a\0b"])
def test_files_elsewhere_are_not_read(tmp_path, name):
    exported(tmp_path / "models" / "model.onnx", ["N", 3, 32, 32])
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "models" / "links").symlink_to(tmp_path / "labels.txt")
    (tmp_path / "models" / "config.pbtxt").write_text(f'label_filename: "{name}"')
    refuse(Arguments(model_dir=tmp_path / "models", preprocess="imagenet"), "which is no file beside it")


def test_what_is_no_onnx_file_is_told_in_one_line(tmp_path):
    (tmp_path / "model.onnx").write_text("<!DOCTYPE html><title>403 Forbidden</title>")
    done = gradcam("kserve", "--model_dir", tmp_path, "--preprocess=imagenet")
    assert done.returncode == 2
    assert re.fullmatch(r"gradcam: .*model\.onnx is a web page, .*\n", done.stderr)


@contextmanager
def files_of_at_most(size):
    """No file grows beyond this, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_it_says_how_much_room_is_needed(tmp_path):
    file = tmp_path / "model.onnx"
    exported(file, ["N", 3, 32, 32])
    said = f"model.onnx can't be copied to .*: File too large. It takes {file.stat().st_size} bytes .*TMPDIR"
    with files_of_at_most(100):
        refuse(Arguments(model_dir=tmp_path, preprocess="imagenet"), said)


def test_without_a_model_it_explains_a_predictor(tmp_path):
    given = Arguments(model_name="birds", model_dir=tmp_path, predictor_host="birds-predictor.default")
    with arranged(given) as chosen:
        (entry,) = scan([chosen["model_repository"]], embedded=False)
        assert entry.spec().source == "predictor"
        assert entry.spec().options == {"url": "http://birds-predictor.default", "model": "birds"}
    assert keys(Arguments("birds", written(tmp_path, "model.yaml"), "birds-predictor.default")) == ["birds@1"]


def refuse(given, said):
    with pytest.raises(BadSettings, match=said), arranged(given):
        pass


def test_it_says_what_would_work(tmp_path):
    refuse(Arguments(model_dir=tmp_path), "there is no model in .* --predictor_host")
    refuse(Arguments(model_dir=tmp_path / "missing"), "there is no model in")
    refuse(Arguments(model_name="a/b", model_dir=tmp_path), "no @ and no /")
    two = written(tmp_path / "two", "sparrows/1/model.yaml", "finches/1/model.yaml")
    refuse(Arguments(model_name="birds", model_dir=two), "several models, finches, sparrows, and none is called birds")
    exported(tmp_path / "one" / "model.onnx", [1, 3, 32, 32])
    refuse(Arguments(model_dir=tmp_path / "one"), "--preprocess imagenet")
    exported(tmp_path / "any" / "model.onnx", ["N", 3, "H", "W"])
    refuse(Arguments(model_dir=tmp_path / "any", preprocess="imagenet"), "images of any size")
    exported(tmp_path / "flat" / "model.onnx", ["N", 7])
    refuse(Arguments(model_dir=tmp_path / "flat", preprocess="imagenet"), r"takes \['\?', 7\], no images")
    exported(tmp_path / "any" / "other.onnx", ["N", 3, 32, 32])
    refuse(Arguments(model_dir=tmp_path / "any", preprocess="imagenet"), "several ONNX files")


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, ("0.0.0.0", 8080, None)),
        ([], {"PORT": "8081"}, ("0.0.0.0", 8081, None)),
        ([], {"PORT": "8081", "GRADCAM_PORT": "8082", "GRADCAM_HOST": "127.0.0.1"}, ("127.0.0.1", 8082, None)),
        (
            ["--http_port", "8083", "--grpc_port=9000"],
            {"PORT": "8081", "GRADCAM_PORT": "8082"},
            ("0.0.0.0", 8083, 9000),
        ),
    ],
)
def test_it_listens_where_kserve_says(tmp_path, arguments, environment, expected):
    written(tmp_path, "model.yaml")
    served = []
    with patch.object(serving, "serve", served.append), patch.dict(os.environ, environment):
        settings = {"default_model": "", "device": "cpu"}
        done = gradcam("kserve", f"--model_dir={tmp_path}", "--model_name", "birds", *arguments, **settings)
    assert done.returncode == 0, done.stderr
    (chosen,) = served
    assert (chosen.host, chosen.port, chosen.grpc_port) == expected
    assert (chosen.default_model, chosen.embedded) == ("birds", False)


def test_arguments_of_other_servers_change_nothing(tmp_path):
    written(tmp_path, "model.yaml")
    strange = ["--predictor_request_timeout_seconds", "600", "--enable_latency_logging=true", "--workers", "2"]
    with patch.object(serving, "serve"):
        done = gradcam("kserve", "--model_dir", tmp_path, *strange)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"gradcam: warning: {name} is no option of gradcam kserve and changes nothing"
        for name in ("--predictor_request_timeout_seconds", "--enable_latency_logging=true")
    ]


def test_an_option_that_is_nearly_one_is_told_which_was_meant(tmp_path):
    done = gradcam("kserve", "--model-dir", written(tmp_path, "model.yaml"), "--preproces=imagenet")
    assert done.stderr.splitlines()[:2] == [
        f"gradcam: warning: {name} is no option of gradcam kserve and changes nothing (did you mean {meant!r}?)"
        for name, meant in (("--model-dir", "--model_dir"), ("--preproces=imagenet", "--preprocess"))
    ]


def test_models_are_where_kserve_puts_them():
    assert kserve.Arguments().model_dir == Path("/mnt/models")
