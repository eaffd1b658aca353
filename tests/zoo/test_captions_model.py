"""The model that is shipped is the one that its card describes."""

import hashlib

import pytest
import torch
import yaml
from safetensors.torch import load_file

from gradcam_service.zoo.network import MEAN, STD
from gradcam_service.zoo.scenes_captions.evaluate import evaluate, grad_cam, greedy
from gradcam_service.zoo.scenes_captions.language import LENGTH, VOCABULARY
from gradcam_service.zoo.scenes_captions.network import LAYER, captions_network
from gradcam_service.zoo.scenes_captions.train import MODEL


@pytest.fixture(scope="module")
def shipped():
    model = captions_network()
    model.load_state_dict(load_file(MODEL / "weights.safetensors"))
    return model.eval()


def test_the_shipped_folder_says_what_the_network_is():
    spec = yaml.safe_load((MODEL / "model.yaml").read_text())
    weights = (MODEL / spec["weights"]).read_bytes()
    assert len(weights) <= 3_000_000
    assert hashlib.sha256(weights).hexdigest() == spec["sha256"]
    assert tuple((MODEL / spec["tokenizer"]).read_text().split()) == VOCABULARY
    assert (spec["length"], spec["layer"], spec["load"]) == (LENGTH + 1, LAYER, "demand")
    assert spec["preprocess"] == {"pad": 128, "mean": [*MEAN], "std": [*STD], "interpolation": "bilinear"}


def test_the_shipped_model_names_and_points_at_what_is_there(shipped):
    """A few scenes only: the figures themselves are of 1,000."""
    figures = evaluate(shipped, 60)
    assert figures.named > 0.8
    assert figures.shapes > 0.85
    assert figures.colours > 0.7


def test_maps_are_those_of_the_definition(shipped):
    """Weights are means over cells of finite differences in float64, of the second word of a caption."""
    model = captions_network()
    model.load_state_dict(shipped.state_dict())
    model = model.double().eval()
    with torch.no_grad():
        maps = model.backbone(torch.randn(1, 3, 32, 32, dtype=torch.float64))
        tokens = greedy(model, maps)
        step, weights = 1e-5, torch.zeros(maps.shape[1], dtype=torch.float64)
        for channel in range(len(weights)):
            shift = torch.zeros_like(maps)
            shift[:, channel] = step
            up, down = (model.decode(m, tokens[:, :-1])[0][0, 1, tokens[0, 2]] for m in (maps + shift, maps - shift))
            weights[channel] = (up - down) / (2 * step) / maps[0, 0].numel()
        expected = torch.einsum("k,khw->hw", weights, maps[0]).relu()
    found = list(grad_cam(model, maps, tokens))[1][0]
    assert torch.allclose(found, expected, atol=1e-8)
