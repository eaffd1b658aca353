"""A folder as timm's ``save_for_hf`` writes it, and as the hub has them, is a model without another word."""

import json

import numpy as np
import pytest
import torch
from lazily import Lazily
from PIL import Image
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.images.geometry import prepare
from gradcam_service.registry.built import build
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry, parse_spec

timm = Lazily("timm")


def saved(folder, name="test_resnet", described=None, **options):
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=3, **options).eval()
    names = {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "cat", "n2": "dog"}}
    timm.models.save_for_hf(module, folder, model_config=names | (described or {}), safe_serialization=True)
    return module


def loaded(folder, yaml="source: timm\n"):
    (folder / "model.yaml").write_text(yaml)
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


@pytest.mark.parametrize(("name", "options"), [("test_resnet", {}), ("test_vit", {"img_size": 64})])
def test_a_folder_predicts_as_timm(tmp_path, name, options):
    module = saved(tmp_path, name, **options)
    model = loaded(tmp_path)
    preprocess, config = model.card.preprocess, timm.data.resolve_model_data_config(module)
    assert (preprocess.mean, preprocess.std, preprocess.crop) == (
        config["mean"],
        config["std"],
        config["input_size"][1],
    )
    assert (preprocess.interpolation, model.card.labels) == (config["interpolation"], ["cat", "dog", "n3"])
    x = torch.randn(2, *config["input_size"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert_close(model.network.scores(x), module(x), rtol=0, atol=1e-5)


def test_another_number_of_labels_is_refused(tmp_path):
    saved(tmp_path)
    with pytest.raises(ModelFailed, match=r"the model has 3 classes, the labels in model\.yaml 2$"):
        loaded(tmp_path, "source: timm\nlabels: [a, b]\n")


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_a_picture_is_prepared_as_timm_does(tmp_path, crop_mode):
    saved(tmp_path, described={"pretrained_cfg": {"crop_mode": crop_mode, "crop_pct": 0.8, "input_size": [3, 64, 64]}})
    described = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=described))
    noise = np.random.default_rng(0).integers(0, 256, (20, 28, 3), np.uint8)
    picture, model = Image.fromarray(noise).resize((280, 200)), loaded(tmp_path)
    ours = model.images([prepare(picture, **model.card.preprocess.geometry()).pixels])
    assert_close(ours, transform(picture)[None], rtol=0, atol=1e-5)


def test_of_a_file_of_a_training_the_network_is_taken_and_never_the_first_of_two(tmp_path):
    module = saved(tmp_path)
    state = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    torch.save({"optimizer": {"lr": torch.ones(1)}, "model": state}, tmp_path / "last.pth")
    weights = build(ModelFolder(parse_spec("source: timm\nweights: last.pth\n", ""), tmp_path)).module.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in state.items())
    torch.save({"model": module.state_dict(), "ema": state}, tmp_path / "last.pth")
    with pytest.raises(ModelFailed, match=r"last\.pth: 'model' and 'ema' would both fit; save one alone"):
        build(ModelFolder(parse_spec("source: timm\nweights: last.pth\n", ""), tmp_path))


def test_a_folder_of_gray_pictures_takes_gray_pictures(tmp_path):
    module = saved(tmp_path, in_chans=1)
    gray = "source: timm\ninput: {channels: gray}\npreprocess: {resize: [64, 64], mean: [0.5], std: [0.2]}\n"
    model = loaded(tmp_path, gray)
    shades = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    with torch.no_grad():
        expected = module((torch.from_numpy(shades / 255).float().permute(2, 0, 1)[None] - 0.5) / 0.2)
    assert_close(model.network.scores(model.images([shades])), expected, rtol=0, atol=1e-5)
    with pytest.raises(ModelFailed, match="takes 1 channel, but would be given 3"):
        loaded(tmp_path, gray.replace("gray", "rgb").replace("0.5", "0.5, 0.5, 0.5").replace("0.2", "0.2, 0.2, 0.2"))


def test_an_architecture_of_other_channels_is_built_for_them(tmp_path):
    bands = "source: timm\narchitecture: test_resnet\nweights: random:1\ninput: {channels: 5}\n"
    bands += "preprocess: {resize: [64, 64], mean: [0, 0, 0, 0, 0], std: [1, 1, 1, 1, 1]}\n"
    torch.manual_seed(1)
    module = timm.create_model("test_resnet", in_chans=5).eval()
    x = torch.randn(1, 5, 64, 64)
    with torch.no_grad():
        assert_close(loaded(tmp_path, bands).network.scores(x), module(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "hf-hub:somebody/model"}, "timm has no architecture 'hf-hub:somebody/model'"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "checkpoint_path is none of the architecture's"),
        ({"architecture": "test_efficientnet"}, "the weights don't fit test_efficientnet: missing keys"),
    ],
)
def test_a_folder_that_describes_something_else_is_refused(tmp_path, change, says):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(tmp_path)
    assert "\n" not in caught.value.detail


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ModelFailed, match=r"needs an architecture in model.yaml, or beside it the config.json"):
        loaded(tmp_path)
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelFailed, match=r"there is no model.safetensors beside model.yaml; pickled weights"):
        loaded(tmp_path)
    with pytest.raises(ModelFailed, match="source timm needs weights"):
        loaded(tmp_path, "source: timm\narchitecture: test_resnet\n")
