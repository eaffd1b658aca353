"""Nothing in the file of an exported program is ever run, whatever it says."""

import contextlib
import io
import json
import pickle
import zipfile

import pytest
import torch
from exported_programs import IMAGES, edit, loaded, rewritten, same, saved, small
from torch.export.pt2_archive._package import load_pt2

from gradcam_service.errors import ModelFailed


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
