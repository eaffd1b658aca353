"""A loaded model is the model that its model.yaml describes, and says so."""

import hashlib
import re
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch.testing import assert_close
from torchvision.transforms.functional import normalize, to_tensor

from gradcam_service.errors import ModelFailed
from gradcam_service.images.geometry import prepare
from gradcam_service.registry import loader
from gradcam_service.registry.built import build
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry, scan
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.zoo.network import scenes_network

CPU = torch.device("cpu")
SCENES = EMBEDDED / "scenes" / "1"
RESNET = "source: torchvision\narchitecture: resnet18\nweights: random:0\n"
SQUEEZENET = RESNET.replace("resnet18", "squeezenet1_1")
PAD = "preprocess: {pad: 64, mean: [0, 0, 0], std: [1, 1, 1]}\n"


def entry(folder, text):
    (folder / "model.yaml").write_text(text)
    return Entry("mine", "1", LocalPlace(folder))


def picture(width=300, height=260):
    noise = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def seen(model, image):
    return prepare(image, **model.card.preprocess.geometry()).pixels


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    return load(entry(tmp_path_factory.mktemp("resnet"), RESNET), CPU)


@pytest.fixture(scope="module")
def scenes():
    return load(next(found for found in scan([]) if found.name == "scenes"), CPU)


def scenes_folder(folder, change=lambda state: None, labels=None):
    """A copy of the embedded model without its digest, its state dict changed."""
    shutil.copytree(SCENES, folder)
    lines = (folder / "model.yaml").read_text().splitlines()
    state = safetensors.torch.load_file(folder / "weights.safetensors")
    change(state)
    safetensors.torch.save_file(state, folder / "weights.safetensors")
    if labels is not None:
        (folder / "labels.txt").write_text("\n".join(labels))
    return entry(folder, "\n".join(line for line in lines if not line.startswith("sha256")))


def test_random_weights_are_those_of_torchvision_from_that_seed(resnet):
    torch.manual_seed(0)
    module = torchvision.models.resnet18().eval()
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    expected = torch.stack([transform(picture()), transform(picture(224, 500))])
    images = resnet.images([seen(resnet, picture()), seen(resnet, picture(224, 500))])
    assert images.dtype == torch.float32
    assert_close(images, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert_close(resnet.network.predict(images)[1], module(expected), rtol=0, atol=1e-4)


def test_a_sample_of_values_is_refused_for_it_names_a_class(tmp_path):
    with pytest.raises(ModelFailed, match="task regression takes no sample"):
        load(entry(tmp_path, RESNET + "task: regression\nsample: {image: a.png, label: 0}\n"), CPU)


def test_a_sample_may_be_as_large_as_callers_pictures(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "OWN_PIXELS", 5000)
    Image.new("RGB", (100, 100)).save(tmp_path / "sample.png")
    listed = entry(tmp_path, SQUEEZENET + PAD + "sample: {image: sample.png, label: 0}\n")
    for max_pixels in (0, 4000):
        with pytest.raises(ModelFailed, match=r"sample sample\.png.* 10000 .* 5000"):
            load(listed, CPU, max_pixels=max_pixels)
    assert load(listed, CPU, max_pixels=10_000).sample.shape == (64, 64, 3)


def test_another_seed_gives_other_weights_and_the_callers_random_numbers_go_on(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    other = load(entry(tmp_path, SQUEEZENET.replace("random:0", "random:1") + PAD), CPU)
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(1)
    module = torchvision.models.squeezenet1_1().eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(other.network.predict(x)[1], module(x), rtol=0, atol=1e-5)
    assert other.card.weights == "random:1"


def test_the_card_of_a_torchvision_model_has_what_its_weights_say(resnet):
    card = resnet.card
    assert (card.labels[0], card.labels[207], card.labels[999]) == ("tench", "golden retriever", "toilet tissue")
    assert len(card.labels) == resnet.network.classes == 1000
    assert card.preprocess == Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=256, crop=224)
    assert (card.weights, card.activation, card.layer, card.methods[0].name) == (
        "random:0",
        "softmax",
        "layer4",
        "gradcam",
    )
    shapes = {layer.name: layer.shape for layer in card.layers}
    assert (shapes["conv1"], shapes["layer1"], shapes["layer4"]) == ((64, 112, 112), (64, 56, 56), (512, 7, 7))


def test_the_embedded_model_is_its_weights_file(scenes):
    module = scenes_network().eval()
    module.load_state_dict(safetensors.torch.load_file(SCENES / "weights.safetensors"))
    image = picture(128, 128)
    expected = normalize(to_tensor(image), [0.5] * 3, [0.25] * 3)[None]
    images = scenes.images([seen(scenes, image)])
    assert_close(images, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert_close(scenes.network.predict(images)[1], module(expected), rtol=0, atol=1e-4)
    assert scenes.card.labels == (SCENES / "labels.txt").read_text().split()
    assert (scenes.card.activation, scenes.card.layer) == ("sigmoid", "layer3")
    assert scenes.card.preprocess.input_size == (128, 128)


def test_pictures_that_are_padded_have_the_mean_colour_which_is_zero_to_the_model(scenes):
    images = scenes.images([seen(scenes, picture(400, 200))])
    assert images[0, :, :30].abs().max() < 0.02
    assert images[0, :, 40:90].abs().max() > 0.5


def test_a_digest_is_the_same_on_every_load_in_every_place_and_whatever_the_description(scenes, tmp_path):
    shutil.copytree(SCENES, tmp_path / "copy")
    text = re.sub("description: .*", "description: Something else.", (SCENES / "model.yaml").read_text())
    (tmp_path / "copy" / "model.yaml").write_text(text)
    again = load(Entry("other", "7", LocalPlace(tmp_path / "copy")), CPU)
    assert again.card == scenes.card
    assert len(bytes.fromhex(again.card.digest.removeprefix("sha256:"))) == 32


def one_bit(state):
    value = state["layer1.0.conv1.weight"].view(-1)
    value[17] = torch.nextafter(value[17], torch.tensor(1.0))


def one_buffer(state):
    state["stem.1.running_mean"][3] += 1e-3


def test_a_digest_changes_with_every_weight_every_buffer_and_every_label(tmp_path):
    labels = [*"abcdefghijk", "L"]
    changes = [{}, {"change": one_bit}, {"change": one_buffer}, {"labels": labels}, {"labels": labels[::-1]}]
    digests = [load(scenes_folder(tmp_path / str(i), **change), CPU).card.digest for i, change in enumerate(changes)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("count", [11, 13])
def test_a_wrong_number_of_labels_is_refused(tmp_path, count):
    with pytest.raises(ModelFailed, match=rf"weights\.safetensors has 12 classes, labels\.txt {count}$"):
        load(scenes_folder(tmp_path / "copy", labels=[f"class {i}" for i in range(count)]), CPU)


def test_a_wrong_number_of_labels_for_random_weights_is_refused(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(ModelFailed, match=r"the model has 1000 classes, labels\.txt 2$"):
        load(entry(tmp_path, f"{SQUEEZENET}labels: labels.txt\n{PAD}"), CPU)


def test_as_many_classes_as_labels_are_built_for_an_operators_weights(tmp_path):
    torch.manual_seed(0)
    module = torchvision.models.squeezenet1_1(num_classes=3).eval()
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    (tmp_path / "labels.txt").write_text("cat\ndog\nfox\n")
    text = SQUEEZENET.replace("random:0", f"w.safetensors\nsha256: {digest}\nlabels: labels.txt")
    model = load(entry(tmp_path, text + PAD), CPU)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(model.network.predict(x)[1], module(x), rtol=0, atol=1e-5)
    assert model.card.labels == ["cat", "dog", "fox"]


ZOO = "source: zoo\narchitecture: {}\nweights: random:0\n"
UNBUILDABLE = {
    "unknown architecture": (RESNET.replace("resnet18", "resnet999"), "no classification architecture 'resnet999'"),
    "misspelt architecture": (RESNET.replace("resnet18", "resent18"), "did you mean 'resnet18'"),
    "segmentation": (RESNET.replace("resnet18", "fcn_resnet50"), "no classification architecture 'fcn_resnet50'"),
    "detection": (RESNET.replace("resnet18", "ssd300_vgg16"), "no classification architecture 'ssd300_vgg16'"),
    "optical flow": (RESNET.replace("resnet18", "raft_small"), "no classification architecture 'raft_small'"),
    "video": (RESNET.replace("resnet18", "r3d_18"), "no classification architecture 'r3d_18'"),
    "not in the zoo": (
        ZOO.format("cats") + PAD + "labels: labels.txt",
        "no architecture 'cats'; it has easy_vqa, policy, scenes, scenes_captions",
    ),
    "no labels": (ZOO.format("scenes") + PAD, "must name a labels file"),
    "no preprocess": (ZOO.format("scenes") + "labels: labels.txt", "must say how to preprocess"),
    "no such published weights": (RESNET.replace("random:0", "V9"), "'V9': no such file .* not a weights name"),
    "no such file": (RESNET.replace("random:0", "w.safetensors"), r"'w\.safetensors': no such file"),
    "no seed": (RESNET.replace("random:0", "'random:'"), "'random:': no such file"),
    "a seed beyond 64 bits": (RESNET.replace("random:0", "random:" + "9" * 30), "random:999"),
    "misspelt labels file": (RESNET + "labels: label.txt", "No such file or directory .did you mean 'labels.txt'"),
    "no labels file": (RESNET + "labels: nowhere.txt", r"nowhere\.txt can't be read: No such file"),
    "labels not in UTF-8": (RESNET + "labels: latin.txt", r"latin\.txt"),
    "unknown layer": (SQUEEZENET + PAD + "layer: layer9", r"no layer 'layer9'.*features\.4.*classifier\.2"),
}


@pytest.mark.parametrize("reason", UNBUILDABLE)
def test_what_cannot_be_built_is_refused_by_name(tmp_path, reason):
    text, says = UNBUILDABLE[reason]
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghijkl"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ModelFailed, match=says) as caught:
        load(entry(tmp_path, text), CPU)
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("architecture", ["efficientnet_b0", "efficientnet_b1", "mobilenet_v2", "convnext_tiny"])
def test_the_default_preprocessing_gives_the_pixels_of_the_published_transform(tmp_path, architecture):
    published = torchvision.models.get_model_weights(architecture).DEFAULT
    spec = Spec(source="torchvision", architecture=architecture, weights="random:0")
    preprocess = build(ModelFolder(spec, tmp_path)).preprocess
    pixels = prepare(picture(500, 375), **preprocess.geometry()).pixels
    mean, std = (torch.tensor(value)[:, None, None] for value in (preprocess.mean, preprocess.std))
    found = (torch.tensor(pixels).permute(2, 0, 1) / 255 - mean) / std
    assert_close(found, published.transforms()(picture(500, 375)), rtol=0, atol=1e-5)
