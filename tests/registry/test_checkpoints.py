"""Checkpoints as people have them: the same network, whatever was saved around it."""

from __future__ import annotations

import argparse
import pickle
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.network import Network
from gradcam_service.registry.built import filled
from gradcam_service.registry.checkpoint import read_tensors
from gradcam_service.registry.checks import examine
from gradcam_service.registry.fit import Misfit, fit
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.repository import parse_spec


def network(classes: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    body = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4)))
    return nn.Sequential(
        OrderedDict(features=body, pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(4, classes))
    )


STATE = network().state_dict()
OTHER = network(seed=1).state_dict()


def prefixed(prefix: str, state: dict[str, torch.Tensor] = STATE) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def trained() -> dict[str, object]:
    """What a loop of training saves beside its network, optimizer's tensors and all."""
    module = network()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "best": np.float64(0.5),
        "args": argparse.Namespace(lr=0.1),
    }


def lightning() -> dict[str, object]:
    """What Lightning saves."""
    return {
        "epoch": 1,
        "state_dict": prefixed("model.") | {"criterion.weight": torch.ones(3), "train_acc.total": torch.tensor(3)},
        "optimizer_states": [trained()["optimizer"]],
        "hyper_parameters": {"data": Path("birds"), "lr": 0.1, "counts": defaultdict(int, a=1), "mean": np.ones(3)},
    }


FORMS: dict[str, tuple[Callable[[], object], str]] = {
    "plain": (lambda: STATE, ""),
    "DataParallel": (lambda: prefixed("module."), "module"),
    "torch.compile of it": (lambda: prefixed("_orig_mod.module."), "_orig_mod.module"),
    "state_dict": (lambda: trained() | {"state_dict": STATE}, "state_dict"),
    "model": (lambda: trained() | {"model": prefixed("module.")}, "model.module"),
    "model_state_dict": (lambda: trained() | {"model_state_dict": STATE}, "model_state_dict"),
    "net of a framework": (lambda: {"engine": {"net": prefixed("backbone.net.")}}, "engine.net.backbone.net"),
    "Lightning": (lightning, "state_dict.model"),
    "ema alone": (lambda: {"ema": {"module": STATE, "decay": 0.9}}, "ema.module"),
    "averaged": (lambda: prefixed("module.") | {"n_averaged": torch.tensor(7)}, "module"),
    "a pair": (lambda: (STATE, trained()["optimizer"]), "0"),
    "tensors beside numbers": (lambda: dict(STATE) | trained(), ""),
    "twice the same": (lambda: {"state_dict": prefixed("model.") | prefixed("net.")}, "state_dict.model"),
    "features alone wrapped": (
        lambda: {name.replace("features.", "features.module."): STATE[name] for name in STATE},
        "",
    ),
    "parts apart": (lambda: {"features": network().features.state_dict(), "fc": network().fc.state_dict()}, ""),
    "a backbone and its head": (
        lambda: {"state_dict": {("head." if "fc." in name else "backbone.") + name: STATE[name] for name in STATE}},
        "state_dict",
    ),
    "weights of classes": (
        lambda: {"state_dict": prefixed("net.") | {"class_weights": torch.ones(3), "ce.pos_weight": torch.ones(3)}},
        "state_dict.net",
    ),
    "counters missing": (lambda: {name: STATE[name] for name in STATE if "num_batches" not in name}, ""),
    "profiled": (lambda: dict(STATE) | {"total_ops": torch.zeros(1), "features.total_params": torch.zeros(1)}, ""),
    "parameters": (lambda: dict(network().named_parameters()) | dict(network().named_buffers()), ""),
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize("form", FORMS)
def test_a_networks_weights_are_found(tmp_path: Path, form: str, old: bool):
    make, name = FORMS[form]
    torch.save(make(), tmp_path / "last.ckpt", _use_new_zipfile_serialization=not old)
    found = fit(network().state_dict(), read_tensors(tmp_path / "last.ckpt"))
    assert found.name == name
    counters = {key for key in STATE if "num_batches" in key}
    assert STATE.keys() - counters <= found.state.keys() <= STATE.keys()
    assert all(torch.equal(found.state[key], STATE[key]) for key in STATE.keys() - counters)


def test_what_was_saved_on_a_gpu_is_read_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")  # as it says of tensors there
        torch.save({"model": STATE}, tmp_path / "w.pth")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "w.pth", weights_only=True)
    assert torch.equal(fit(STATE, read_tensors(tmp_path / "w.pth")).state["fc.bias"], STATE["fc.bias"])


def test_half_precision_is_read_as_the_networks_own(tmp_path: Path):
    torch.save({"model": {name: tensor.half() for name, tensor in STATE.items()}}, tmp_path / "w.pth")
    module = filled(network(seed=1), tmp_path / "w.pth", folder(tmp_path))
    assert all(tensor.dtype == STATE[name].dtype for name, tensor in module.state_dict().items())
    assert torch.equal(module.fc.weight, STATE["fc.weight"].half().float())


def test_weights_saved_before_their_network_was_wrapped_are_found(tmp_path: Path):
    torch.save({"model": STATE}, tmp_path / "w.pth")
    found = fit(nn.DataParallel(nn.ModuleDict({"body": network()})).state_dict(), read_tensors(tmp_path / "w.pth"))
    assert found.state.keys() == prefixed("module.body.").keys()


class AttributeDict(dict):
    """As Lightning saves hyperparameters; its package is not installed here."""


@pytest.mark.parametrize("package", ["lightning.fabric.utilities.data", "pytorch_lightning.utilities.parsing"])
def test_lightnings_own_dictionaries_are_passed_over(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch):
    module = ModuleType(package)
    module.AttributeDict = AttributeDict  # type: ignore[attr-defined]
    monkeypatch.setattr(AttributeDict, "__module__", package)
    for depth in range(1, package.count(".") + 1):
        monkeypatch.setitem(sys.modules, package.rsplit(".", depth)[0], ModuleType("parent"))
    monkeypatch.setitem(sys.modules, package, module)
    torch.save({"state_dict": STATE, "hyper_parameters": AttributeDict(lr=0.1)}, tmp_path / "w.ckpt")
    monkeypatch.delitem(sys.modules, package)
    assert fit(STATE, read_tensors(tmp_path / "w.ckpt")).name == "state_dict"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"state_dict": STATE, "state_dict_ema": OTHER}, ["state_dict", "state_dict_ema"]),
        ({"state_dict": prefixed("encoder_q.") | prefixed("encoder_k.", OTHER)},
         ["state_dict.encoder_q", "state_dict.encoder_k"]),
        ({"model": STATE, "ema": {"module": OTHER}}, ["model", "ema.module"]),
    ],
)  # fmt: skip
def test_where_two_would_fit_both_are_named_and_one_may_be_taken(tmp_path: Path, content: object, names: list[str]):
    torch.save(content, tmp_path / "w.pth")
    tensors = read_tensors(tmp_path / "w.pth")
    with pytest.raises(Misfit, match="would both fit") as caught:
        fit(STATE, tensors)
    assert all(repr(name) in str(caught.value) for name in names)
    for name, state in zip(names, (STATE, OTHER), strict=True):
        assert torch.equal(fit(STATE, tensors, take=name).state["fc.weight"], state["fc.weight"])
    with pytest.raises(Misfit, match="nowhere"):
        fit(STATE, tensors, take="nowhere")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (dict(STATE) | {"head.weight": torch.ones(2, 3)}, r"it has no head\.weight"),
        ({"state_dict": prefixed("backbone.") | {"head.weight": torch.ones(2, 3)}}, r"it has no head\.weight"),
        ({"state_dict": prefixed("backbone.") | {"head.fc.weight": torch.ones(3, 4)}}, r"it has no head\.fc\.weight"),
        ({name: STATE[name] for name in STATE if name != "fc.bias"}, r"1 of its 9 tensors are missing \(fc\.bias\)"),
        (network(5).state_dict(), r"size mismatch for fc\.weight, fc\.bias: the head has 5 classes"),
        (dict(STATE) | {"features.conv.weight": torch.ones(4, 1, 3, 3)},
         r"features\.conv\.weight: \(4, 1, 3, 3\) in the file, but built with \(4, 3, 3, 3\)"),
        ({"layer.w": torch.ones(2)}, r"it has features\.conv\.weight, .* but the file layer\.w"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(tmp_path: Path, content: object, says: str):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(Misfit, match=says):
        fit(STATE, read_tensors(tmp_path / "w.pth"))


def test_what_is_taken_by_its_name_must_be_the_networks_too():
    deeper = STATE | {"features.second.weight": torch.ones(4, 4, 3, 3)}
    with pytest.raises(Misfit, match=r"it has no features\.second\.weight; is it another architecture"):
        fit(STATE, {"model": dict(deeper), "ema": OTHER | deeper}, take="ema")
    both = {"state_dict": prefixed("encoder.") | {"projector.weight": torch.ones(3, 4)}}
    with pytest.raises(Misfit, match=r"it has no projector\.weight"):
        fit(STATE, both)
    assert fit(STATE, both, take="state_dict.encoder").left.keys() == {"projector.weight"}


@pytest.mark.parametrize(
    "name",
    ["ema.weight", "ema_attn.weight", "features.ema.weight", "ce_block.weight", "acc.weight", "metrics.weight",
     "teacher.weight", "features.asymmetric.weight"],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "net."])
def test_learned_parts_of_a_network_are_not_taken_for_its_training(name: str, prefix: str):
    with pytest.raises(Misfit, match="is it another architecture") as caught:
        fit(STATE, {"": prefixed(prefix) | {prefix + name: torch.ones(3)}})
    assert prefix + name in str(caught.value)


@pytest.mark.parametrize(
    "name", ["ema_model.w", "model_ema.decay", "teacher.fc.weight", "train_acc.total", "metrics.0.sum", "ce.weight"]
)
def test_what_stands_beside_a_network_may_be_of_its_training(name: str):
    found = fit(STATE, {"": prefixed("net.") | {name: torch.ones(3)}})
    assert (found.prefix, [*found.left]) == ("net.", [name])


def folder(path: Path, labels: str = "") -> ModelFolder:
    return ModelFolder(parse_spec(f"source: python\narchitecture: nets:net\nweights: w.pth\n{labels}", "x"), path)


@pytest.mark.parametrize(
    ("labels", "says"), [("", "; name 5 labels"), ("labels: [a, b, c, d, e]", "; have nets:net build 5")]
)
def test_a_head_that_differs_says_what_to_change(tmp_path: Path, labels: str, says: str):
    torch.save(network(5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelFailed, match="the head has 5 classes, but is built with 3") as caught:
        filled(network(), tmp_path / "w.pth", folder(tmp_path, labels))
    assert caught.value.detail.endswith(says)


def test_a_head_of_another_number_of_classes_than_there_are_labels_is_told_of_by_both_files(tmp_path: Path):
    torch.save(network(5).state_dict(), tmp_path / "w.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(
        ModelFailed, match=r"^w\.pth has 5 classes, labels\.txt 4; name 5 labels \(.*size mismatch for fc"
    ):
        filled(network(4), tmp_path / "w.pth", folder(tmp_path, "labels: labels.txt"))


def test_a_checkpoint_of_another_architecture_is_told_of_in_few_words(tmp_path: Path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "w.pth")
    with torch.device("meta"):
        module = torchvision.models.resnet50()
    with pytest.raises(ModelFailed, match=r"don't fit nets:net: .*layer1") as caught:
        filled(module, tmp_path / "w.pth", folder(tmp_path))
    assert len(caught.value.detail) <= 300


@pytest.mark.parametrize("build", [torchvision.models.googlenet, torchvision.models.inception_v3])
def test_auxiliary_heads_may_be_missing_or_more(tmp_path: Path, build):
    whole = build(num_classes=3, init_weights=False)
    bare = build(num_classes=3, init_weights=False, aux_logits=False)
    torch.save(bare.state_dict(), tmp_path / "w.pth")
    found = [
        filled(build(num_classes=3, init_weights=False), tmp_path / "w.pth", folder(tmp_path)).eval() for _ in range(2)
    ]
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(found[0](images), bare.eval()(images))
    states = [module.state_dict() for module in found]
    for name in states[0]:
        assert_close(states[0][name], states[1][name], rtol=0, atol=0, equal_nan=True)  # or each had another digest
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    filled(bare, tmp_path / "w.pth", folder(tmp_path))
    with torch.no_grad():
        assert torch.equal(bare(images), whole.eval()(images))


@pytest.mark.parametrize("build", [torchvision.models.googlenet, torchvision.models.inception_v3])
def test_auxiliary_heads_may_be_of_other_classes(tmp_path: Path, build):
    trained = build(init_weights=False)
    trained.fc = nn.Linear(trained.fc.in_features, 3)  # as whoever fine-tunes it alone does
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    module = filled(build(num_classes=3, init_weights=False), tmp_path / "w.pth", folder(tmp_path)).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(module(images), trained.eval()(images))
    found = fit(build(init_weights=False).state_dict(), read_tensors(tmp_path / "w.pth"), any_head=True)
    assert found.classes == 3


class Both(nn.Module):
    """A network whose auxiliary head has a part in the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.aux = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.conv(images).relu().mean((2, 3))
        return self.fc(pooled) + 0.4 * self.aux(pooled)


def test_a_head_that_is_missing_and_answers_is_refused(tmp_path: Path):
    torch.save({name: one for name, one in Both().state_dict().items() if "aux" not in name}, tmp_path / "w.pth")
    module = filled(Both(), tmp_path / "w.pth", folder(tmp_path)).eval()
    with pytest.raises(ModelFailed, match="are its weights damaged or incomplete"):
        examine(Network(module, (3, 8, 8)), 3, (8, 8), torch.device("cpu"))


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda tensor: tensor.to("meta")], ids=["sparse", "meta"])
def test_tensors_whose_numbers_are_not_there_are_none(tmp_path: Path, change):
    torch.save({"model": {name: change(tensor) for name, tensor in STATE.items()}}, tmp_path / "w.pth")
    with pytest.raises(ModelFailed, match="something else than a state dict of tensors"):
        read_tensors(tmp_path / "w.pth")


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that a script made, whose class ``__main__.Config`` is not one of this process."""
    folder = tmp_path_factory.mktemp("pickled")
    config = type("Config", (), {"__module__": "__main__"})
    with pytest.MonkeyPatch.context() as script:
        script.setattr(sys.modules["__main__"], "Config", config, raising=False)
        contents = {"model": nn.Linear(2, 2), "whole": nn.Linear, "config": {"state_dict": {}, "config": config()}}
        for name, content in contents.items():
            torch.save(content, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize("what", ["model", "whole", "config"])
def test_pickled_code_is_refused_saying_how_to_save_without_it(pickled: Path, what: str):
    with pytest.raises(ModelFailed, match=r"never pickled code \(.*torch\.save\(model\.state_dict\(\)") as caught:
        read_tensors(pickled / f"{what}.pth")
    assert len(caught.value.detail.replace(str(pickled), "")) <= 280


def test_what_stands_beside_weights_never_runs(tmp_path: Path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": print}, protocol=2))
    with pytest.raises(ModelFailed, match="never pickled code"):
        read_tensors(tmp_path / "w.pkl")
    torch.save({"state_dict": STATE, "args": argparse.Namespace(a=np.float32(1)), "x": {1, 2}}, tmp_path / "w.pth")
    assert [*read_tensors(tmp_path / "w.pth")] == ["state_dict"]
