"""The model that is shipped is the one that its card describes."""

import hashlib

import pytest
import torch
import yaml
from safetensors.torch import load_file

from gradcam_service.zoo.easy_vqa.dataset import Examples, load
from gradcam_service.zoo.easy_vqa.evaluate import evaluate
from gradcam_service.zoo.easy_vqa.language import ANSWERS, LENGTH, VOCABULARY
from gradcam_service.zoo.easy_vqa.network import LAYER, METHOD, vqa_network
from gradcam_service.zoo.easy_vqa.train import MODEL
from gradcam_service.zoo.network import MEAN, STD


@pytest.fixture(scope="module")
def shipped():
    model = vqa_network()
    model.load_state_dict(load_file(MODEL / "weights.safetensors"))
    return model.eval()


def sample(pictures: int) -> Examples:
    """The first pictures of the test part."""
    pytest.importorskip("easy_vqa", reason="the data set: pip install -e '.[zoo]'")
    whole = load("test")
    return Examples(*(values[:pictures] for values in vars(whole).values()))


def test_the_shipped_folder_says_what_the_network_is():
    spec = yaml.safe_load((MODEL / "model.yaml").read_text())
    weights = (MODEL / spec["weights"]).read_bytes()
    assert len(weights) <= 3_000_000
    assert hashlib.sha256(weights).hexdigest() == spec["sha256"]
    assert tuple((MODEL / spec["tokenizer"]).read_text().split()) == VOCABULARY
    assert tuple((MODEL / spec["labels"]).read_text().split()) == ANSWERS
    assert (spec["length"], spec["layer"], spec["method"], spec["load"]) == (LENGTH, LAYER, METHOD, "demand")
    assert spec["preprocess"] == {"resize": [64, 64], "mean": [*MEAN], "std": [*STD], "interpolation": "bilinear"}


def test_the_shipped_model_answers_and_points(shipped):
    """A few pictures only: the figures themselves are of the whole test part."""
    found = evaluate(shipped, sample(40))["all"]
    assert found.questions > 300
    assert found.right > 0.95
    assert found.hirescam > 0.85


def test_the_shipped_padding_means_nothing(shipped):
    images, questions = torch.randn(1, 3, 64, 64), torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        padded = shipped(images, torch.tensor([[5, 6, 7, 0, 0, 0, 0, 0, 0]]))
        assert torch.allclose(shipped(images, questions), padded, atol=1e-5)
