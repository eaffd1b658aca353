"""Exported programs are explained as the modules they were, and nothing in their files is ever run."""

import contextlib
import functools
import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from methods.networks import CLASSES, batched_maps, known
from torch import nn
from torch.export.pt2_archive._package import load_pt2
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry

BATCH = torch.export.Dim("batch", min=1, max=1024)


def loaded(folder, size=(64, 64), **more):
    """The model of ``folder/model.pt2``, as an operator would describe it."""
    lines = [f"{name}: {value}" for name, value in ({"source": "export", "weights": "model.pt2"} | more).items()]
    preprocess = f"preprocess: {{resize: {list(size)}, mean: [0, 0, 0], std: [1, 1, 1]}}"
    (folder / "model.yaml").write_text("\n".join([*lines, preprocess]))
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


def exported(folder, module, *inputs, dynamic=True):
    """Export a module, for any number of images or for as many as there are."""
    inputs = inputs or (torch.zeros(2, 3, 8, 8),)
    shapes = tuple({0: BATCH} for _ in inputs) if dynamic else None
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes), folder / "model.pt2")
    return folder / "model.pt2"


def small(seed=0):
    torch.manual_seed(seed)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *pooled).eval()


@functools.cache
def archive(seed):
    """What is exported of a small network, exported once."""
    with TemporaryDirectory() as folder:
        return exported(Path(folder), small(seed)).read_bytes()


def saved(folder, seed=0):
    (folder / "model.pt2").write_bytes(archive(seed))
    return folder / "model.pt2"


@pytest.mark.parametrize("name", ["resnet18", "shufflenet"])
def test_a_program_is_explained_as_its_module(tmp_path, name):
    module, truth = known(name).module, known(name).network
    exported(tmp_path, module, torch.zeros(2, 3, 64, 64))
    model = loaded(tmp_path)
    network = model.network
    assert model.card.source == "export"
    assert model.card.labels == [str(index) for index in range(CLASSES)]
    assert [(layer.name, layer.shape) for layer in network.layers] == [
        (layer.name, layer.shape) for layer in truth.layers
    ]
    assert network.cut.layer.name == truth.cut.layer.name
    assert network.cut.head.weight is not None
    for count in (1, 3):
        x = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        frontier, scores = network.predict(x)
        with torch.no_grad():
            expected = module(x)
        assert_close(scores, expected, rtol=1e-5, atol=1e-5)
        for target in range(CLASSES):
            targets = torch.full((count,), target)
            ours = batched_maps("gradcam", network.cut, frontier, targets)
            theirs = batched_maps("gradcam", truth.cut, truth.cut.frontier(x), targets)
            assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))
        assert expected.std() > 1e-3
    every = [
        batched_maps("gradcam", network.cut, frontier.rows([0]), torch.tensor([target])) for target in range(CLASSES)
    ]
    assert any(heatmap.any() for heatmap in every)


def test_labels_are_those_that_are_named(tmp_path):
    saved(tmp_path)
    (tmp_path / "labels.txt").write_text("\n".join("abcdef"))
    assert loaded(tmp_path, (8, 8), labels="labels.txt").card.labels == list("abcdef")
    (tmp_path / "labels.txt").write_text("a\nb")
    with pytest.raises(ModelFailed, match=r"model\.pt2 has 6 classes, labels\.txt 2$"):
        loaded(tmp_path, (8, 8), labels="labels.txt")


def test_another_file_is_another_digest(tmp_path):
    path = saved(tmp_path)
    first = path.read_bytes()
    digest = loaded(tmp_path, (8, 8)).card.digest
    assert loaded(tmp_path, (8, 8)).card.digest == digest
    saved(tmp_path, seed=1)
    assert loaded(tmp_path, (8, 8)).card.digest != digest
    path.write_bytes(first)
    rewritten(path, edit("aten.relu.default", "aten.sigmoid.default"))  # the same weights in another architecture
    assert loaded(tmp_path, (8, 8)).card.digest != digest


def test_a_digest_is_checked_before_the_file_is_read(tmp_path):
    path = saved(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded(tmp_path, (8, 8), sha256=digest).card.source == "export"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFailed, match="SHA-256"):
        loaded(tmp_path, (8, 8), sha256=digest)


class Two(nn.Module):
    def forward(self, images, others):
        return (images + others).mean((2, 3))


class Whole(nn.Module):
    def forward(self, images):
        return images.float().mean((2, 3))


IMAGES = torch.zeros(2, 3, 8, 8)
UNFIT = {
    "fixed batch": ((small(), IMAGES), False, r"takes exactly 2 images; export it with .*Dim\(\"batch\"\)"),
    "another size": ((small(), torch.zeros(2, 3, 9, 10)), True, "images of 3×9×10, but preprocess makes 3×8×8"),
    "one channel": ((Whole(), torch.zeros(2, 1, 8, 8)), True, "takes 1 channel, but would be given 3"),
    "two inputs": ((Two(), IMAGES, IMAGES), True, r"takes one input, images \(N, 3, H, W\) of float32"),
    "bytes": ((Whole(), IMAGES.to(torch.uint8)), True, r"takes one input, images \(N, 3, H, W\) of float32"),
    "rows": ((nn.Linear(192, 7), torch.zeros(2, 192)), True, r"takes one input, images \(N, 3, H, W\) of float32"),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_program_for_something_else_fails_by_name(tmp_path, reason):
    made, dynamic, says = UNFIT[reason]
    exported(tmp_path, *made, dynamic=dynamic)
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("damage", ["empty", "text", "half", "short", "another zip"])
def test_a_damaged_file_fails_in_one_line(tmp_path, damage):
    path = saved(tmp_path)
    intact = path.read_bytes()
    damaged = {"empty": b"", "text": b"<html>404</html>", "half": intact[: len(intact) // 2], "short": intact[:-1]}
    if damage == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/readme.txt", "hello")
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(ModelFailed, match=r"model\.pt2 is no archive of torch\.export\.save") as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("record", ["models/model.json", "model_weights_config.json", "weight_0", "archive_version"])
def test_an_archive_without_one_of_its_parts_fails_in_one_line(tmp_path, record):
    path = rewritten(saved(tmp_path), lambda name, data: None if name.endswith(record) else (name, data))
    with pytest.raises(ModelFailed, match=path.name) as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail


def rewritten(path, change, **added):
    """The archive with every record changed, by ``change(name, data)`` → (name, data) or None, and more records."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    root = records[0][0].partition("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records:
            if changed := change(name, data):
                archive.writestr(*changed)
        for name, data in added.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def same(name, data):
    return name, data


def edit(old, new, ending=".json"):
    """Replace a text in the documents of an archive; it must be there."""

    def change(name, data):
        if name.endswith(ending) and old.encode() in data:
            return name, data.replace(old.encode(), new.encode())
        return name, data

    return change


def quoted(text):
    return json.dumps(text)[1:-1]


class Evil:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def evil_tensors(marker):
    """What `torch.save` makes of sample inputs, or of constants, that hold code."""
    file = io.BytesIO()
    torch.save(((Evil(marker),), {}), file)
    return file.getvalue()


def replaced(ending, data, renamed=None):
    def change(name, old):
        return (name.replace(ending, renamed or ending), data) if name.endswith(ending) else (name, old)

    return change


def pickled_weight(marker, fqn):
    """A weight that is said to be pickled, and is code."""

    def change(name, data):
        if name.endswith("weight_0"):
            return name, evil_tensors(marker)
        if name.endswith("weights_config.json"):
            config = json.loads(data)["config"]
            config[fqn] = config.pop("0.weight") | {"use_pickle": True}
            return name, json.dumps({"config": config}).encode()
        return name, data

    return change


def constant(path_name, use_pickle):
    one = {"dtype": 1, "sizes": [{"as_int": 1}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}
    one |= {"requires_grad": False, "device": {"type": "cpu", "index": None}, "layout": 7}
    meta = {"path_name": path_name, "is_param": False, "use_pickle": use_pickle, "tensor_meta": one}
    return replaced("constants_config.json", json.dumps({"config": {"c": meta}}).encode())


def opened(marker):
    """An expression that makes a file."""
    return f"open({str(marker)!r},'w')"


def input_named(name):
    """The same program whose input has another name."""
    tensor, described = '"as_tensor": {"name": "%s"}', '"%s": {"dtype"'

    def change(record, data):
        for text in (tensor, described):
            record, data = edit(text.replace("%s", "input"), text.replace("%s", quoted(name)))(record, data)
        return record, data

    return change


SAMPLE = "sample_inputs/model.pt"
PICKLED = r"holds pickled code, not only tensors"
NO_PART = r"which is no part of a graph with tensors"
SIZE = "Symbol('s31', positive=True, integer=True)"
RELU = "torch.ops.aten.relu.default"
ENUM = [{"__enum__": True, "fqn": "antigravity:fly", "name": "x"}]
FACTORY = {"default_factory_module": "antigravity", "default_factory_name": "fly", "dict_context": []}

# What an attack changes and adds, given the file it would make, and why it is refused.
ATTACKS = {
    "sample inputs": (lambda marker: (replaced(SAMPLE, evil_tensors(marker)), {}), f"{SAMPLE} {PICKLED}"),
    "bare pickle": (lambda marker: (replaced(SAMPLE, pickle.dumps((Evil(marker),))), {}), f"{SAMPLE} {PICKLED}"),
    "sample inputs, other case": (
        lambda marker: (replaced(SAMPLE, evil_tensors(marker), "sample_inputs/model.PT"), {}), NO_PART),
    "sample inputs, twice": (
        lambda marker: (same, {"data/sample_inputs/MODEL.pt": evil_tensors(marker)}), NO_PART),
    "weights of old": (lambda marker: (same, {"data/weights/model.pt": evil_tensors(marker)}), PICKLED),
    "constants of old": (lambda marker: (same, {"data/constants/model.pt": evil_tensors(marker)}), PICKLED),
    "pickled weight": (lambda marker: (pickled_weight(marker, "0.weight"), {}), "holds pickled tensors"),
    "pickled weight named as text": (lambda marker: (pickled_weight(marker, "metadata"), {}), "holds pickled tensors"),
    "pickled constant": (
        lambda marker: (constant("tensor_0", True), {"data/constants/tensor_0": evil_tensors(marker)}),
        "holds pickled tensors"),
    "opaque object": (
        lambda marker: (constant("opaque_obj_0", False), {"data/constants/opaque_obj_0": pickle.dumps(Evil(marker))}),
        "opaque_obj_0"),
    "opaque object in a tensor's place": (
        lambda marker: (constant("opaque_obj_0", False), {}), r"holds a pickled object \(opaque_obj_0\)"),
    "script object": (lambda _: (constant("custom_obj_0", False), {}), r"holds a pickled object \(custom_obj_0\)"),
    "compiled library": (
        lambda _: (same, {"data/aotinductor/model/model.so": b"\x7fELF"}), "holds a compiled library"),
    "program that is no JSON by name": (
        lambda _: (replaced("models/model.json", b"{}", "models/model.jsom"), {}), NO_PART),
    "torch.load": (lambda _: (edit(RELU, "torch.load"), {}), "calls torch.load, which is none of torch's own"),
    "torch.hub": (lambda _: (edit(RELU, "torch.hub.load"), {}), r"calls torch\.hub\.load, which is none"),
    "eval": (lambda _: (edit(RELU, "builtins.eval"), {}), r"calls builtins\.eval, which is none"),
    "os.system": (lambda _: (edit(RELU, "torch.os.system"), {}), r"calls torch\.os\.system, which is none"),
    "methodcaller": (lambda _: (edit(RELU, "_operator.methodcaller"), {}), r"calls _operator\.methodcaller, which"),
    "operators of others": (
        lambda _: (edit(RELU, "torch.ops.inductor.relu.default"), {}), r"calls torch\.ops\.inductor\.relu\.default"),
    "files": (lambda _: (edit(RELU, "torch.ops.aten.from_file.default"), {}), r"calls torch\.ops\.aten\.from_file"),
    "saving": (lambda _: (edit(RELU, "torch.ops.aten.save.default"), {}), r"calls torch\.ops\.aten\.save"),
    "size": (lambda marker: (edit(SIZE, opened(marker)), {}), "is no size"),
    "size of a text's name": (
        lambda marker: (lambda name, data: edit(SIZE, opened(marker))(*edit('"relu"', '"metadata"')(name, data)), {}),
        "is no size"),
    "size by attributes": (
        lambda marker: (edit(SIZE, f"Symbol('s31').func.__globals__[{opened(marker)}]"), {}), "is no size"),
    "placeholder": (lambda marker: (edit('"p_0_bias"', f'"x={quoted(opened(marker))}"'), {}), "is no name"),
    "input": (lambda marker: (input_named(f"x={opened(marker)}"), {}), "is no name"),
    "node": (lambda marker: (edit('"relu"', f'"a={quoted(opened(marker))};b"'), {}), "is no name"),
    "node elsewhere": (lambda _: (edit('"relu"', '"torch.load"'), {}), "'torch.load' is no name"),
    "argument": (
        lambda marker: (
            edit('"forward_arg_names": ["input"]', f'"forward_arg_names": ["x={quoted(opened(marker))}"]'), {}),
        "is no name"),
    "parameter": (
        lambda marker: (edit("0.bias", quoted(f'a"),{opened(marker)},getattr(self,"b')), {}), "is no name"),
    "structure": (
        lambda _: (edit(quoted('"context": "[]"'), quoted(f'"context": "{quoted(json.dumps(ENUM))}"')), {}),
        "is no structure"),
    "default factory": (
        lambda _: (
            edit(quoted('"context": "[]"'), quoted(f'"context": "{quoted(json.dumps(FACTORY))}"')), {}),
        "is no structure"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_could_run_code_is_refused_and_does_not_run(tmp_path, attack):
    made, says = ATTACKS[attack]
    marker = tmp_path / "made"
    path = saved(tmp_path)
    before = records_of(path)
    change, added = made(marker)
    rewritten(path, change, **added)
    assert records_of(path) != before, "nothing was changed, so refusing it proved nothing"
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail
    assert not marker.exists()


def records_of(path):
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "attack",
    ["sample inputs", "bare pickle", "sample inputs, other case", "weights of old", "pickled weight",
     "pickled weight named as text", "size", "input",
     pytest.param(
         "opaque object", marks=pytest.mark.skipif(torch.__version__ < (2, 12), reason="torch has none of these"))],
)  # fmt: skip
def test_torch_itself_runs_such_code(tmp_path, attack):
    marker = tmp_path / "made"
    change, added = ATTACKS[attack][0](marker)
    path = rewritten(saved(tmp_path), change, **added)
    with contextlib.suppress(Exception):  # it fails, once the code has run
        (program,) = load_pt2(str(path)).exported_programs.values()
        program.run_decompositions({})
    assert marker.exists(), "the file was harmless, so refusing it proves nothing"


@pytest.mark.filterwarnings("ignore")
def test_guards_are_thrown_away(tmp_path):
    marker = tmp_path / "made"
    path = saved(tmp_path)
    expected = loaded(tmp_path, (8, 8)).network.scores(IMAGES + 1)
    rewritten(path, edit('"guards_code": []', f'"guards_code": ["{quoted(opened(marker))}"]'))
    assert b"'w')" in next(data for name, data in records_of(path) if name.endswith("models/model.json"))
    scores = loaded(tmp_path, (8, 8)).network.scores(IMAGES + 1)
    assert not marker.exists()
    assert torch.equal(scores, expected)
    program = load_pt2(str(path)).exported_programs["model"]
    program.run_decompositions({}).module()(IMAGES)
    assert marker.exists(), "the guard was harmless, so throwing it away proved nothing"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("content", ["module", "code"])
def test_what_torch_save_pickled_is_refused(tmp_path, content, old):
    marker = tmp_path / "made"
    saved = small() if content == "module" else {"0.weight": Evil(marker)}
    torch.save(saved, tmp_path / "model.pt2", _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelFailed, match=r"model\.pt2 is no archive of torch\.export\.save") as caught:
        loaded(tmp_path, (8, 8))
    assert "\n" not in caught.value.detail
    assert not marker.exists()


def test_a_rewritten_archive_is_still_a_model(tmp_path):
    path = saved(tmp_path)
    expected = loaded(tmp_path, (8, 8)).network.scores(IMAGES + 1)
    rewritten(path, same, **{"extra/notes.txt": b"mine"})
    assert torch.equal(loaded(tmp_path, (8, 8)).network.scores(IMAGES + 1), expected)


class Several(nn.Module):
    """Answers with a structure: scores, and what else there is."""

    def __init__(self, answer):
        super().__init__()
        self.inner, self.answer = small(), answer

    def forward(self, x):
        features = self.inner[:2](x)
        return self.answer(self.inner[2:](features), features)


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        (lambda scores, features: (scores, features), {}),
        (lambda scores, features: {"features": features, "logits": scores}, {}),
        (lambda scores, features: (features.mean((2, 3)), scores), {"output": 1}),
        (lambda scores, features: {"embedding": features.mean((2, 3)), "species": scores}, {"output": "species"}),
        (lambda scores, features: {"logits": scores}, {}),
        (lambda scores, features: (scores,), {}),
        (lambda scores, features: (scores, None), {}),
        (lambda scores, features: (None, features, scores), {}),
        (lambda scores, features: {"logits": scores, "probabilities": scores}, {}),
    ],
)
def test_the_scores_of_a_program_are_found_among_its_outputs(tmp_path, answer, more):
    exported(tmp_path, Several(answer))
    network, x = loaded(tmp_path, (8, 8), **more).network, torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert_close(network.scores(x), small()(x))
        assert_close(network.traced(x), small()(x))  # as methods of the picture ask it
    assert network.cut.head.weight is not None


def test_several_outputs_of_a_program_that_could_be_scores_are_refused_by_name(tmp_path):
    exported(tmp_path, Several(lambda scores, features: {"embedding": features.mean((2, 3)), "species": scores}))
    with pytest.raises(ModelFailed, match=r"embedding \(N, 4\), species \(N, 6\)"):
        loaded(tmp_path, (8, 8))
    with pytest.raises(ModelFailed, match="none is 'genus'"):
        loaded(tmp_path, (8, 8), output="genus")
