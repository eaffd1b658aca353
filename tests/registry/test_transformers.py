"""A folder that transformers wrote predicts and explains as transformers itself, on a picture."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from lazily import Lazily
from methods.networks import batched_maps
from PIL import Image
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.images.geometry import prepare
from gradcam_service.inputs import INPUTS
from gradcam_service.registry.hub_preprocess import preprocess_of
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry

transformers = Lazily("transformers")
NAMES = {0: "cat", 1: "dog", 2: "bird"}
BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
SQUARE = {"size": {"height": 64, "width": 64}}
CROPPED = {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}}
KINDS = {
    "ViT": ({**BLOCKS, "intermediate_size": 64, "image_size": 64}, "ViTImageProcessor", SQUARE),
    "Swin": (
        {"embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4, "image_size": 64, "patch_size": 4},
        "ViTImageProcessor",
        SQUARE | {"resample": 3},
    ),
    "ConvNext": (
        {**STAGES, "num_stages": 2},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 64}, "crop_pct": 0.8},
    ),
    "ResNet": (
        {**STAGES, "embedding_size": 8, "layer_type": "basic"},
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 64}, "crop_pct": 0.8, "resample": 2},
    ),
    "MobileNetV1": ({"image_size": 64, "depth_multiplier": 0.25}, "MobileNetV1ImageProcessor", CROPPED),
    "MobileNetV2": ({"image_size": 64, "depth_multiplier": 0.35}, "MobileNetV2ImageProcessor", CROPPED),
    "Beit": (
        {**BLOCKS, "intermediate_size": 64, "image_size": 64, "use_relative_position_bias": True},
        "BeitImageProcessor",
        SQUARE | {"do_center_crop": False},
    ),
    "Dinov2": ({**BLOCKS, "image_size": 64}, "BitImageProcessor", CROPPED),
}
"""Configurations, and image processors as these models are published with, tiny."""
SLOW = ("Beit", "MobileNetV1", "MobileNetV2")


def saved(folder, kind, **processing):
    """A folder as `save_pretrained` writes it, random weights inside, and ``model.yaml`` of one line."""
    options, processor, sizes = KINDS[kind]
    config = getattr(transformers, f"{kind}Config")(
        **options, id2label=NAMES, label2id={v: k for k, v in NAMES.items()}
    )
    torch.manual_seed(0)
    module = transformers.AutoModelForImageClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():  # transformers begins with weights so small that no score differs
            parameter += 0.1 * torch.randn(parameter.shape)
    module.save_pretrained(folder)
    getattr(transformers, processor)(**(sizes | processing)).save_pretrained(folder)
    (folder / "model.yaml").write_text("source: transformers\n")
    return module


def picture(width=200, height=160):
    """One of which an even number of pixels is cropped: the middle of an odd one is rounded otherwise."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def loaded(folder):
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


def given(model, image, folder):
    """What the service gives the model of a picture."""
    image.save(folder / "picture.png")
    data = (folder / "picture.png").read_bytes()
    received = INPUTS[model.card.input.reader].receive(data, model.card.input, model.card.preprocess, 10**6)
    return model.images([received.inputs["image"]])


def grid(values):
    """Tokens (1, T, K) as (1, K, h, w) without those that are no patch; feature maps as they are."""
    if values.dim() == 4:
        return values
    side = int(values.shape[1] ** 0.5)
    return values[:, values.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side))


def hooked(module, pixels, target, layer):
    """Scores by transformers, and Grad-CAM by a hook at one of its modules."""
    kept = {}

    def keep(_module, _inputs, output):
        kept["A"] = output if isinstance(output, torch.Tensor) else output[0]
        kept["A"].retain_grad()

    handle = module.get_submodule(layer).register_forward_hook(keep)
    scores = module(pixel_values=pixels).logits
    scores[0, target].backward()
    handle.remove()
    features, slopes = grid(kept["A"].detach()), grid(kept["A"].grad)
    return scores.detach(), (slopes.mean((2, 3), keepdim=True) * features).sum(1).relu()


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.exhaustive) if k in SLOW else k for k in KINDS])
def test_a_folder_predicts_and_explains_as_transformers_does(tmp_path, kind):
    module = saved(tmp_path, kind)
    model, image = loaded(tmp_path), picture()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    images = given(model, image, tmp_path)
    assert_close(images, pixels, rtol=0, atol=1e-5)
    assert (model.card.labels, model.card.weights) == (["cat", "dog", "bird"], "of the folder")
    layer = {"Beit": "beit.layers.1"}.get(kind, model.card.layer)  # the service's is a part of what this one answers
    frontier, found = model.network.predict(images)
    for target in range(3):
        module.zero_grad()
        scores, expected = hooked(module, pixels, target, layer)
        assert_close(found, scores, rtol=0, atol=1e-4)
        maps = batched_maps("gradcam", model.network.cut, frontier, torch.tensor([target]))
        assert_close(maps, expected, rtol=0, atol=1e-4 * float(expected.abs().max()) + 1e-7)
    assert scores.std() > 0.01
    assert expected.any()


def test_transformers_default_of_resizing_differs_by_rounding_alone(tmp_path):
    """It resizes with torchvision; we do with Pillow, as it did when most models were trained."""
    module = saved(tmp_path, "ViT")
    model, image = loaded(tmp_path), picture()
    pixels = transformers.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    images = given(model, image, tmp_path)
    assert float((images - pixels).abs().max()) < 1.01 / 255 / 0.5
    with torch.no_grad():
        assert_close(model.network.scores(images), module(pixel_values=pixels).logits, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    "processing",
    [
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
        {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}},
        {
            "size": {"height": 80, "width": 96},
            "do_center_crop": True,
            "crop_size": {"height": 64, "width": 48},
        },
        {"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 64, "width": 48}},
        {"size": 64, "resample": 0},
        {"resample": 1},
    ],
    ids=str,
)
def test_a_processor_is_mapped(tmp_path, processing):
    getattr(transformers, "BitImageProcessor" if "crop_size" in processing else "ViTImageProcessor")(
        **(SQUARE | processing)
    ).save_pretrained(tmp_path)
    described = json.loads((tmp_path / "preprocessor_config.json").read_text())
    preprocess, image = preprocess_of(tmp_path, described), picture()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    (expected,) = processor(image, return_tensors="np")["pixel_values"]
    pixels = prepare(image, **preprocess.geometry()).pixels
    ours = (pixels / 255 - preprocess.mean) / preprocess.std
    assert_close(np.float32(ours.transpose(2, 0, 1)), np.float32(expected), rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "processing", "says"),
    [
        ("ViTImageProcessor", {"do_resize": False}, "do_resize is false"),
        ("ViTImageProcessor", {"resample": 4}, "resample is 4; 0 .nearest., 1 .lanczos., 2"),
        ("ViTImageProcessor", {"size": {"shortest_edge": 64, "longest_edge": 96}}, "size is .*longest_edge"),
        ("EfficientNetImageProcessor", {"rescale_offset": True}, "does more than resize, crop, rescale and normalize"),
        ("MobileViTImageProcessor", {"do_flip_channel_order": True}, r"blue first; say input: {channels: bgr}"),
    ],
)
def test_a_processor_that_does_something_else_is_refused(tmp_path, kind, processing, says):
    getattr(transformers, kind)(**processing).save_pretrained(tmp_path)
    with pytest.raises(ModelFailed, match=says):
        preprocess_of(tmp_path, json.loads((tmp_path / "preprocessor_config.json").read_text()))


def test_a_processor_that_puts_blue_first_is_mapped_where_the_model_takes_that(tmp_path):
    transformers.MobileViTImageProcessor(**SQUARE, do_center_crop=False).save_pretrained(tmp_path)
    described = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert preprocess_of(tmp_path, described, blue_first=True).resize == (64, 64)
    transformers.ViTImageProcessor(**SQUARE).save_pretrained(tmp_path)
    described = json.loads((tmp_path / "preprocessor_config.json").read_text())
    with pytest.raises(ModelFailed, match="of 255 away"):
        preprocess_of(tmp_path, described, blue_first=True)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    saved(folder, "ViT")
    return folder


def changed(folder, name, **members):
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | members))


CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
BROKEN = {
    "no config.json beside": lambda folder: (folder / CONFIG).unlink(),
    "config.json is no JSON": lambda folder: (folder / CONFIG).write_text("{"),
    "no preprocessor_config.json beside": lambda folder: (folder / PROCESSOR).unlink(),
    r"pytorch_model.bin. are refused": lambda folder: (folder / "model.safetensors").rename(
        folder / "pytorch_model.bin"
    ),
    "code that comes with a model never runs": lambda folder: changed(
        folder, CONFIG, model_type="mine", auto_map={"AutoConfig": "mine.Config"}
    ),
    "'bert', for which transformers has no image classifier": lambda folder: changed(folder, CONFIG, model_type="bert"),
    "say activation: sigmoid": lambda folder: changed(folder, CONFIG, problem_type="multi_label_classification"),
    "id2label of config.json must name": lambda folder: changed(
        folder, CONFIG, id2label={"0": "a", "2": "b", "3": "c"}
    ),
    "weights don't fit ViTForImageClassification: missing keys": lambda folder: changed(
        folder, CONFIG, num_hidden_layers=3
    ),
    "model.safetensors leads out of": lambda folder: leads_out(folder),
}


def leads_out(folder):
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


@pytest.mark.parametrize("says", BROKEN)
def test_a_folder_that_is_none_is_refused_in_one_line(tmp_path, vit, says):
    folder = tmp_path / "copy"
    shutil.copytree(vit, folder)
    BROKEN[says](folder)
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(folder)
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail.replace(str(tmp_path), "")) < 400


def test_weights_of_a_headless_model_are_refused(tmp_path, vit):
    """transformers would begin with a random head, and only warn."""
    folder = tmp_path / "copy"
    shutil.copytree(vit, folder)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    headless = {name: value for name, value in state.items() if not name.startswith("classifier")}
    safetensors.torch.save_file(headless, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFailed, match=r"missing keys classifier\.bias, classifier\.weight"):
        loaded(folder)


def test_weights_may_be_in_several_files(tmp_path, vit):
    folder = tmp_path / "copy"
    shutil.copytree(vit, folder)
    module = transformers.AutoModelForImageClassification.from_pretrained(vit)
    (folder / "model.safetensors").unlink()
    module.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert loaded(folder).card.digest == loaded(vit).card.digest
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["classifier.bias"] = "../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFailed, match=r"elsewhere\.safetensors"):
        loaded(folder)


def test_the_digest_covers_the_configuration_and_the_weights(tmp_path, vit):
    digests = {loaded(vit).card.digest}
    changes = [{"layer_norm_eps": 1e-3}, {"id2label": {"0": "x", "1": "y", "2": "z"}}, {"hidden_act": "relu"}]
    for i, change in enumerate(changes):
        folder = tmp_path / str(i)
        shutil.copytree(vit, folder)
        changed(folder, CONFIG, **change)
        digests.add(loaded(folder).card.digest)
    assert len(digests) == 4
