"""What computes in bfloat16 is accepted by its answers: networks made by hand, rounded as bfloat16 rounds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gradcam_service.explain.network import Network
from gradcam_service.images.geometry import prepare
from gradcam_service.inputs import Takes
from gradcam_service.registry.acceleration import accelerated
from gradcam_service.registry.acceptance import compare, real_pictures
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.spec import Preprocess
from gradcam_service.runtime import openvino


def rounded(features: Tensor) -> Tensor:
    """As a runtime in bfloat16 gives them: 8 bits of mantissa."""
    return features.bfloat16().float()


class ByHand(nn.Module):
    """A 1×1 convolution of one channel to as many as there are classes, averaged, and times a factor."""

    def __init__(self, weights: list[float], biases: list[float], head: list[list[float]]) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, len(weights), 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(len(weights), len(head), bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor(weights)[:, None, None, None])
            self.features.bias.copy_(torch.tensor(biases))
            self.head.weight.copy_(torch.tensor(head))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.features(images)))


def figures(module: nn.Module, images: Tensor):
    network = Network(module.eval(), (1, *images.shape[2:]))
    backbone = network.cut.backbone
    return compare(network, network.with_backbone(lambda batch: rounded(backbone(batch))), [images])


ONES = torch.ones(1, 1, 4, 4)


def test_a_near_tie_that_rounding_turns_into_another_answer_is_not_accepted():
    """Features 1 and 1 + 2⁻⁹ become 1 both; times 512 they are a logit apart."""
    found = figures(ByHand([0, 0], [1, 1 + 2**-9], [[512, 0], [0, 512]]), ONES)
    probability = 1 / (1 + math.exp(-1))
    assert found.other_classes == 1
    assert found.probability == pytest.approx(probability - 0.5)
    assert found.cosine == pytest.approx(1)
    assert not found.accepted


def test_another_class_as_probable_within_the_tolerance_is_accepted():
    """The same features, times 32: a sixteenth of a logit apart."""
    found = figures(ByHand([0, 0], [1, 1 + 2**-9], [[32, 0], [0, 32]]), ONES)
    assert (found.other_classes, found.accepted) == (0, True)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-1 / 16)) - 0.5, abs=1e-6)


def test_probabilities_that_differ_are_not_accepted_though_the_class_is_the_same():
    found = figures(ByHand([0, 0], [1, 1 - 2**-8 - 7 * 2**-12], [[256, 0], [0, 256]]), ONES)
    assert found.other_classes == 0
    assert found.probability > 0.05
    assert not found.accepted


def test_maps_that_rounding_changes_are_not_accepted_though_probabilities_stay():
    """A map that is the small difference of large features: 0.1 x of 100 + 0.1 x, whose spacing is 0.5."""
    images = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    found = figures(ByHand([0.1, 0], [100, 100], [[1, -1], [0, 0]]), images)
    assert (found.other_classes, found.probability < 0.05) == (0, True)
    assert found.cosine == 0  # of nothing
    assert not found.accepted


def test_ordinary_rounding_is_accepted_and_nothing_at_all_is_exact():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    images = torch.randn(3, 1, 12, 12)
    found = figures(module, images)
    assert found.accepted
    assert 0 < found.probability < 0.01
    assert found.pictures == 3
    network = Network(module.eval(), (1, 12, 12))
    same = compare(network, network, images.split(2))
    assert (same.other_classes, same.probability, same.pictures) == (0, 0.0, 3)
    assert same.cosine == pytest.approx(1)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_no_number_is_not_accepted(wrong):
    network = Network(ByHand([1, 2], [0, 0], [[1, 0], [0, 1]]).eval(), (1, 4, 4))
    other = network.with_backbone(lambda images: network.cut.backbone(images) * wrong)
    assert not compare(network, other, [ONES]).accepted


def test_values_that_are_no_probabilities_are_compared_to_the_largest():
    module = ByHand([1], [0], [[1000.0]]).eval()
    network = Network(module, (1, 4, 4), activation="identity")
    for factor, accepted in ((1.04, True), (1.06, False)):
        other = network.with_backbone(lambda images, factor=factor: network.cut.backbone(images) * factor)
        found = compare(network, other, [ONES])
        assert (found.probability, found.accepted) == (pytest.approx(factor - 1, abs=1e-5), accepted)


def test_the_pictures_are_those_that_come_with_the_service():
    preprocess = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resize=64, crop=48)
    pictures = list(real_pictures(Takes(), preprocess))
    assert len(pictures) == 7
    assert {picture.shape for picture in pictures} == {(48, 48, 3)}
    assert list(real_pictures(Takes(channels=5, depth=16), replace(preprocess, mean=(0,) * 5, std=(1,) * 5))) == []


YAML = """
source: torchvision
architecture: squeezenet1_1
weights: random:0
runtime: openvino
preprocess: {pad: 64, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
"""


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("squeezenet")
    (folder / "model.yaml").write_text(YAML)
    return load(Entry("squeezenet", "1", LocalPlace(folder)), torch.device("cpu"))


def rounding_runtime(monkeypatch, spoil=lambda features: features):
    """A runtime that computes in bfloat16 on any processor, in the place of OpenVINO."""

    def build(work, precision):
        return work.backbone if precision == "float32" else lambda images: rounded(spoil(work.backbone(images)))

    monkeypatch.setattr(openvino, "RUNTIME", replace(openvino.RUNTIME, build=build))


def test_a_model_in_bfloat16_has_a_digest_of_its_own_and_its_card_says_so(monkeypatch, squeezenet):
    rounding_runtime(monkeypatch)
    exact, fast, again = (accelerated(squeezenet, precision) for precision in ("float32", "bfloat16", "bfloat16"))
    assert exact.card.digest == squeezenet.card.digest
    assert (exact.card.precision, fast.card.precision) == ("float32", "bfloat16")
    assert fast.card.digest == again.card.digest != exact.card.digest
    weights = sum(tensor.nbytes for tensor in squeezenet.network.cut.backbone.state_dict().values())
    held = [model.card.memory - squeezenet.card.memory for model in (exact, fast)]
    assert held == [2 * weights, weights]  # OpenVINO holds them as they were, and packed


def test_a_model_whose_answers_change_stays_in_float32_and_it_is_said_by_how_much(monkeypatch, squeezenet):
    rounding_runtime(monkeypatch, spoil=lambda features: features.flip(3))
    model = accelerated(squeezenet, "bfloat16")
    assert (model.card.precision, model.card.digest) == ("float32", squeezenet.card.digest)
    assert "openvino in bfloat16 is not accepted: of 7 pictures" in model.others[0]


def test_what_model_yaml_says_counts_more_than_the_setting(monkeypatch, squeezenet):
    rounding_runtime(monkeypatch)
    own = replace(squeezenet, spec=squeezenet.spec.model_copy(update={"precision": "float32"}))
    assert accelerated(own, "bfloat16").card.precision == "float32"
    assert accelerated(squeezenet, "auto").card.precision in ("float32", "bfloat16")


def test_the_sample_of_a_model_is_one_of_the_pictures(monkeypatch, squeezenet, tmp_path):
    rounding_runtime(monkeypatch, spoil=lambda features: features.flip(3))
    sample = Image.radial_gradient("L").convert("RGB")
    sample.save(tmp_path / "sample.png")
    pixels = prepare(sample, **squeezenet.card.preprocess.geometry()).pixels
    label = int(squeezenet.network.scores(squeezenet.images([pixels])).argmax())
    (tmp_path / "model.yaml").write_text(f"{YAML}sample: {{image: sample.png, label: {label}}}\n")
    model = load(Entry("squeezenet", "2", LocalPlace(tmp_path)), torch.device("cpu"))
    assert (model.sample == pixels).all()
    assert "of 8 pictures" in accelerated(model, "bfloat16").others[0]
