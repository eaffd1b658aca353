"""The policy that is shipped is the one that is described, and what trains and measures it does what it says."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import spearmanr

from api.calls import values
from gradcam_service.zoo.policy.card import Training, card
from gradcam_service.zoo.policy.evaluate import Figures, Measured, Seen, cam, evaluate, peaks, pointing
from gradcam_service.zoo.policy.network import (
    ACTIONS,
    CELLS,
    LAYER,
    LAYERS,
    METHOD,
    TILE,
    PolicyNetwork,
    pixels,
    policy_network,
)
from gradcam_service.zoo.policy.train import MODEL, fit_value, imitate, reinforce
from gradcam_service.zoo.training import Cost
from gradcam_service.zoo.weights import save
from live import Service

SPEC = yaml.safe_load((MODEL / "model.yaml").read_text())
THINGS = ("agent", "key", "door", "goal")


class States(NamedTuple):
    """What tests/zoo/doorkey/README.md describes."""

    pictures: np.ndarray
    best: np.ndarray
    steps: np.ndarray
    seen: list[Seen]


@pytest.fixture(scope="module")
def states() -> States:
    stored = np.load(Path(__file__).parent / "doorkey" / "states.npz")
    rows = zip(stored["pictures"], stored["things"].tolist(), stored["floor"], stored["towards"], strict=True)
    seen = [
        Seen(picture, {n: (x, y) for n, (x, y) in zip(THINGS, cells, strict=True) if x >= 0}, int(floor), str(towards))
        for picture, cells, floor, towards in rows
    ]
    return States(stored["pictures"], stored["best"], stored["steps"], seen)


@pytest.fixture(scope="module")
def shipped() -> PolicyNetwork:
    network = policy_network()
    network.load_state_dict(load_file(MODEL / "weights.safetensors"))
    return network.eval()


def test_a_place_of_the_layer_that_is_explained_is_a_cell_of_the_world():
    network, pictures = policy_network(), torch.rand(1, 3, 64, 64)
    before = network.get_submodule(LAYER)(pictures)
    pictures[:, :, 3 * TILE : 4 * TILE, 5 * TILE : 6 * TILE] = 0
    changed = (network.get_submodule(LAYER)(pictures) != before).any(1)[0]
    assert before.shape[2:] == (CELLS, CELLS)
    assert changed.nonzero().tolist() == [[3, 5]]


def test_it_answers_with_logits_and_a_value_for_each_state_by_itself(shipped: PolicyNetwork, states: States):
    with torch.no_grad():
        logits, worth = shipped(pixels(states.pictures[:4]))
        alone = [shipped(pixels(states.pictures[i : i + 1])) for i in range(4)]
    assert (logits.shape, worth.shape) == ((4, len(ACTIONS)), (4, 1))
    torch.testing.assert_close(torch.cat([one for one, _ in alone]), logits)
    torch.testing.assert_close(torch.cat([one for _, one in alone]), worth)


def test_the_shipped_weights_are_small_fit_the_network_and_match_their_digest():
    weights = MODEL / SPEC["weights"]
    assert weights.stat().st_size <= 2_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == SPEC["sha256"]
    assert tuple((MODEL / SPEC["labels"]).read_text().split()) == ACTIONS
    side = CELLS * TILE
    assert (SPEC["layer"], SPEC["method"]) == (LAYER, METHOD)
    assert SPEC["preprocess"] | {"interpolation": ""} == {
        "resize": [side, side],
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "interpolation": "",
    }


def test_it_does_what_a_planner_would_in_worlds_that_it_never_saw(shipped: PolicyNetwork, states: States):
    with torch.no_grad():
        chosen = shipped(pixels(states.pictures))[0].argmax(1)
    assert states.best[range(len(chosen)), chosen].mean() >= 0.95


def test_its_value_falls_with_the_way_that_is_left(shipped: PolicyNetwork, states: States):
    with torch.no_grad():
        worth = shipped(pixels(states.pictures))[1][:, 0].numpy()
    assert np.abs(worth - 0.99**states.steps).mean() < 0.04
    assert spearmanr(worth, states.steps).statistic < -0.9


def test_its_maps_point_at_what_matters(shipped: PolicyNetwork, states: States):
    found = pointing(cam(shipped, states.pictures), states.seen)
    assert found.hits / found.states >= 0.95
    assert found.p_value(found.hits, found.chance_inside) < 1e-20
    assert found.p_value(found.besides, found.chance_besides) < 1e-20


def test_the_gradient_is_that_of_finite_differences(shipped: PolicyNetwork, states: States):
    """Of one state in float64: each channel's slope at each place by nudging it there, and their mean for Grad-CAM."""
    network = policy_network().double()
    network.load_state_dict(shipped.state_dict())
    picture = states.pictures[:1]
    with torch.no_grad():
        maps = network.features.cells(pixels(picture).double())[0]
        chosen = int(network(pixels(picture).double())[0].argmax())

        def logits(of: torch.Tensor) -> torch.Tensor:
            after = network.features.layer2(network.features.layer1(of))
            return network.action(network.features.hidden(after.flatten(1)))[:, chosen]

        nudges = 1e-6 * torch.eye(maps.numel(), dtype=torch.float64).reshape(-1, *maps.shape)
        slopes = ((logits(maps + nudges) - logits(maps - nudges)) / 2e-6).reshape(maps.shape)
    expected = {"hirescam": slopes * maps, "gradcam": slopes.mean((1, 2), keepdim=True) * maps}
    for method, products in expected.items():
        one = products.sum(0).relu().numpy()
        np.testing.assert_allclose(cam(shipped, picture, method)[0], one, atol=1e-4 * one.max())


def test_the_service_answers_what_is_measured(service: Service, shipped: PolicyNetwork, states: States):
    """Actions, values and maps of ten states, sent as pictures; each where a map of the network's own peaks, too."""
    expected = cam(shipped, states.pictures[:10])
    with torch.no_grad():
        logits, worth = shipped(pixels(states.pictures[:10]))
    for row, picture in enumerate(states.pictures[:10]):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        answer = service.client.post(
            "/explain?model=policy", files={"image": file.getvalue()}, data={"output": "map", "top_k": "7"}
        ).json()["results"][0]
        scores = {action["label"]: action["logit"] for action in answer["actions"]}
        assert answer["actions"][0]["index"] == int(logits[row].argmax())
        assert [scores[name] for name in ACTIONS] == pytest.approx(logits[row].tolist(), abs=1e-4)
        assert answer["value"] == pytest.approx(float(worth[row, 0]), abs=1e-4)
        (found,) = (values(explanation["map"]) for explanation in answer["explanations"])
        np.testing.assert_allclose(found, expected[row], rtol=0, atol=1e-4 * expected[row].max())


def test_pointing_done_by_hand():
    """Maxima on the key, beside the door, far from all and of an empty map."""
    things = {"agent": (1, 1), "key": (3, 2), "door": (4, 4), "goal": (6, 6)}
    seen = [Seen(np.zeros((64, 64, 3), np.uint8), things, 23, towards) for towards in ("key", "door", "goal", "goal")]
    maps = np.zeros((4, 8, 8), np.float32)
    maps[0, 2, 3], maps[0, 1, 1] = 3, 1
    maps[1, 5, 5] = maps[2, 1, 6] = 1
    assert peaks(maps[:3]) == [(3, 2), (5, 5), (6, 1)]
    found = pointing(maps, seen)
    assert found.on == {"agent": 0, "key": 1, "door": 0, "goal": 0}
    assert (found.hits, found.beside, found.states) == (1, 1, 4)
    assert (found.chance, found.chance_inside, found.share) == (4 / 64, 4 / 24, 1 / 4)
    assert found.towards == {"key": (1, 1, 0), "door": (1, 0, 0), "goal": (2, 0, 0)}
    assert (found.besides, found.chance_besides) == (1, 3 / 23)
    assert found.p_value(found.hits, 1 / 16) == pytest.approx(1 - (15 / 16) ** 4)


def test_the_card_tells_what_was_measured(shipped: PolicyNetwork, states: States):
    ways = [(METHOD, LAYER), ("gradcam", LAYERS[2])]
    found, other = (pointing(cam(shipped, states.pictures, *way), states.seen) for way in ways)
    figures = Figures(200, 193, 17.0, 16.0)
    training = Training(100, 200, "minigrid 1", Cost(3.0, 5.0, "2 cores", 400_000, 1_600_000))
    text = card(
        Figures(200, 190, 18.0, 16.0), Measured(figures, dict(zip(ways, (found, other), strict=True))), training
    )
    assert "| 96.5% | 17 | 16 |" in text
    assert f"| agent | {found.on['agent'] / found.states:.1%} |" in text
    assert f"| gradcam | `{LAYERS[2]}` | {other.hits / other.states:.1%} | {other.beside / other.states:.1%} |" in text
    assert "{" not in text


@pytest.mark.exhaustive
def test_it_reaches_the_goal_in_worlds_that_it_never_saw(shipped: PolicyNetwork):
    measured = evaluate(shipped, 200, seed=1)
    found = measured.pointing[METHOD, LAYER]
    assert measured.figures.reached >= 190
    assert found.p_value(found.hits, found.chance_inside) < 1e-20
    assert found.p_value(found.besides, found.chance_besides) < 1e-20


@pytest.mark.exhaustive
def test_a_short_training_runs_and_is_what_is_saved(tmp_path: Path):
    torch.manual_seed(0)
    network = policy_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    imitate(network, rounds=1, steps=16, seed=0)
    imitated = {name: value.clone() for name, value in network.state_dict().items()}
    reinforce(network, steps=4096, seed=0)
    for name, value in network.state_dict().items():
        assert not torch.equal(before[name], imitated[name])
        assert not torch.equal(imitated[name], value)
    features = network.features.state_dict()["hidden.0.weight"].clone()
    fit_value(network, worlds=1, seed=0)
    assert torch.equal(network.features.state_dict()["hidden.0.weight"], features)
    (tmp_path / "model.yaml").write_text((MODEL / "model.yaml").read_text())
    assert save(network, tmp_path, labels=ACTIONS) == len((tmp_path / "weights.safetensors").read_bytes())
    policy_network().load_state_dict(load_file(tmp_path / "weights.safetensors"))
