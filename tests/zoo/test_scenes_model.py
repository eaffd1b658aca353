"""The model that is shipped is the one that is described, and what trains and measures it does what it says."""

import hashlib

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from gradcam_service.zoo.augment import augmented
from gradcam_service.zoo.card import Training, card
from gradcam_service.zoo.dataset import Examples, draw
from gradcam_service.zoo.evaluate import average_precision, evaluate, grad_cam, measure
from gradcam_service.zoo.network import MEAN, STD, normalise, scenes_network
from gradcam_service.zoo.scenes import CLASSES, scene
from gradcam_service.zoo.train import MODEL, pointing_loss, train
from gradcam_service.zoo.training import Cost
from gradcam_service.zoo.weights import save


@pytest.fixture(scope="module")
def shipped():
    model = scenes_network()
    model.load_state_dict(load_file(MODEL / "weights.safetensors"))
    return model.eval()


def test_the_last_feature_map_is_at_least_8_by_8_and_the_head_is_pool_and_linear():
    model = scenes_network().eval()
    images = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        maps = model.features(images)
        assert maps.shape == (2, 128, 16, 16)
        assert maps.min() >= 0
        assert torch.allclose(model(images), model.fc(maps.mean((2, 3))), atol=1e-5)


def test_normalising_follows_the_mean_and_std_of_the_spec():
    spec = yaml.safe_load((MODEL / "model.yaml").read_text())
    assert spec["preprocess"] == {"pad": 128, "mean": [*MEAN], "std": [*STD], "interpolation": "bilinear"}
    white = normalise(torch.full((1, 4, 4, 3), 255, dtype=torch.uint8))
    assert white.shape == (1, 3, 4, 4)
    assert torch.allclose(white, torch.tensor(2.0))


def test_the_shipped_weights_are_small_fit_the_network_and_match_their_digest():
    spec = yaml.safe_load((MODEL / "model.yaml").read_text())
    weights = MODEL / spec["weights"]
    assert weights.stat().st_size <= 6_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == spec["sha256"]
    scenes_network().load_state_dict(load_file(weights))


def test_the_shipped_labels_are_the_classes():
    spec = yaml.safe_load((MODEL / "model.yaml").read_text())
    assert tuple((MODEL / spec["labels"]).read_text().split()) == CLASSES


def test_the_shipped_model_names_and_points_at_what_is_there(shipped):
    """A few scenes only: the figures themselves are measured on 2,000 when the model is trained."""
    figures = measure(shipped, scene, 80, "shipped")
    assert figures.mean_average_precision > 0.95
    assert figures.pointed > 0.88


def test_the_closed_form_is_the_gradient(shipped):
    images = normalise(torch.from_numpy(np.stack([scene(1).image, scene(2).image])))
    targets = torch.tensor([3, 7])
    maps = shipped.features(images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(shipped.head(maps)[[0, 1], targets].sum(), maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    assert torch.allclose(grad_cam(shipped, images, targets), expected, atol=1e-5)


def test_evidence_and_bias_make_the_logits(shipped):
    maps = shipped.features(torch.randn(2, 3, 128, 128))
    assert torch.allclose(shipped.evidence(maps).mean((2, 3)) + shipped.fc.bias, shipped.head(maps), atol=1e-4)


def test_average_precision_of_a_ranking_done_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    assert average_precision(scores, np.array([True, True, False, False])) == 1
    assert average_precision(scores, np.array([False, True, False, True])) == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_regions_go_where_their_pictures_go():
    """Pictures that are bright where the regions are: after any augmentation they still are."""
    regions = torch.zeros(2, 128, 128, dtype=torch.uint8)
    regions[:, 20:60, 40:110] = 5
    images = (regions > 0).float()[:, None].repeat(1, 3, 1, 1) * 1.5
    for seed in range(40):
        pictures, moved = augmented(images, regions, 96, np.random.default_rng(seed))
        assert pictures.shape == (2, 3, 96, 96)
        assert moved.shape == (2, 96, 96)
        for picture, region in zip(pictures.mean(1), moved > 0, strict=True):
            assert set(moved.unique().tolist()) == {0, 5}
            assert picture[region].mean() > picture[~region].mean() + 0.5


def test_the_pointing_loss_falls_as_evidence_moves_onto_the_object():
    regions = torch.zeros(1, 8, 8, dtype=torch.uint8)
    regions[:, :4, :4] = 1 + 2
    labels = torch.zeros(1, 12)
    labels[0, 2] = 1
    on, spread, off = torch.zeros(1, 12, 2, 2), torch.ones(1, 12, 2, 2), torch.zeros(1, 12, 2, 2)
    on[0, 2, 0, 0] = off[0, 2, 1, 1] = 3.0
    losses = [float(pointing_loss(evidence, regions, labels)) for evidence in (on, spread, off)]
    assert losses[0] == pytest.approx(0, abs=2e-3)
    assert losses[1] == pytest.approx(-np.log(0.25), abs=1e-2)
    assert losses[2] > 5


def test_a_short_training_runs_and_repeats_itself(tmp_path):
    examples = draw(64, processes=1)
    one, two = (train(examples, epochs=1, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    (tmp_path / "model.yaml").write_text((MODEL / "model.yaml").read_text())
    size = save(one, tmp_path, labels=CLASSES)
    weights = (tmp_path / "weights.safetensors").read_bytes()
    assert size == len(weights)
    assert yaml.safe_load((tmp_path / "model.yaml").read_text())["sha256"] == hashlib.sha256(weights).hexdigest()
    scenes_network().load_state_dict(load_file(tmp_path / "weights.safetensors"))


@pytest.mark.exhaustive
def test_examples_do_not_depend_on_the_number_of_processes():
    one, two = draw(260, processes=1), draw(260, processes=2)
    assert isinstance(one, Examples)
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("images", "labels", "regions"))


def test_the_card_tells_what_was_measured(shipped):
    figures = evaluate(shipped, 20)
    text = card(figures, Training("make zoo", 10, 2, Cost(3.0, 5.0, "2 cores", 400_000, 1_600_000), 20))
    assert f"| 1–4 objects | {figures['ordinary'].mean_average_precision:.3f} |" in text
    assert all(f"| {name} | " in text for name in CLASSES)
    assert "{" not in text
