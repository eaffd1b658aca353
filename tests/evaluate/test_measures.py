"""Protocols of faithfulness and the like, on a linear model of which everything is known, and on `scenes`."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from methods.networks import maps_of
from PIL import Image
from scipy.special import softmax
from scipy.stats import spearmanr
from test_protocols import SIZE, Model, square, thing
from torch import from_numpy, nn, no_grad, tensor

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.datasets import Source, collect
from gradcam_service.evaluate.explainer import Explainer
from gradcam_service.evaluate.journal import opened
from gradcam_service.evaluate.metrics.bias import differences, shares
from gradcam_service.evaluate.protocols import PROTOCOLS, Of
from gradcam_service.evaluate.protocols.robustness import attacked, bounds
from gradcam_service.evaluate.runner import Plan, Planned, run
from gradcam_service.evaluate.sample import Sample, Thing
from gradcam_service.explain.network import Network
from gradcam_service.images.geometry import prepare
from gradcam_service.inputs import Takes
from gradcam_service.local import open_model
from gradcam_service.settings import Settings
from gradcam_service.zoo.scenes import scene

RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.normal(size=(2, 3, SIZE, SIZE)).astype(np.float32) / 10
IMAGE = RANDOM.normal(size=(3, SIZE, SIZE)).astype(np.float32)


class Linear:
    """A linear model, whose exact attribution is its input times its weights; it counts what it is asked."""

    def __init__(self):
        self.model = Model(2)
        self.model.network = self
        self.asked = 0

    def scores(self, pictures):
        self.asked += len(pictures)
        return np.einsum("nchw,kchw->nk", pictures, WEIGHTS)

    def explain(self, pictures, method, label):
        self.asked += len(pictures)
        return (pictures * WEIGHTS[label]).sum(1)


def linear_case(things=None, maps=None):
    asked = Linear()
    prepared = prepare(Image.new("RGB", (SIZE, SIZE)), resize=SIZE, crop=SIZE)
    maps = maps or {label: (IMAGE * WEIGHTS[label]).sum(0) for label in (0, 1)}
    predicted = np.einsum("chw,kchw->k", IMAGE, WEIGHTS)
    sample = Sample("a", bytes, things or (Thing("0", index=0), Thing("1", index=1)))
    return Case(sample, "gradcam", prepared, IMAGE, predicted, maps, asked, 0)


def measured(protocol, case, **given):
    known = PROTOCOLS[protocol]
    options = {name: option.default for name, option in known.options.items()} | given
    return known.measure(case, **options)


@pytest.mark.parametrize(
    "protocol",
    ["confidence", "deletion", "faithfulness", "infidelity", "max_sensitivity", "road", "sensitivity_n"],
)
def test_passes_are_those_that_are_done(protocol):
    case, known = linear_case(), PROTOCOLS[protocol]
    options = {name: option.default for name, option in known.options.items()}
    rows = known.measure(case, **options)
    assert [row["label"] for row in rows] == [0, 1]
    own, shared = known.passes("gradcam", 2, lambda _: 1, **options), known.shared_passes(2, lambda _: 1, **options)
    assert case.asked.asked == own + shared
    known.measure(replace(case, method="layercam"), **options)
    assert case.asked.asked == 2 * own + shared


@pytest.mark.parametrize("protocol", ["infidelity", "sensitivity_n"])
def test_what_is_scored_once_for_all_is_what_each_would_score(protocol):
    """The second class's map of noise, measured after another's, is worth what it is worth alone."""
    noise = {0: RANDOM.normal(size=(SIZE, SIZE)), 1: RANDOM.normal(size=(SIZE, SIZE))}
    both = measured(protocol, linear_case(maps=noise))
    alone = measured(protocol, linear_case(things=(Thing("1", index=1),), maps=noise))
    assert both[1] == alone[0]
    assert both[0] != {**alone[0], "label": 0}


def test_an_exact_map_of_a_linear_model_has_no_infidelity_and_full_sensitivity():
    for row in measured("infidelity", linear_case()):
        assert row["infidelity"] == pytest.approx(0, abs=1e-6)
    for row in measured("sensitivity_n", linear_case()):
        assert row["sensitivity"] == pytest.approx(1, abs=1e-4)
    assert all(row["sensitivity"] > 0 for row in measured("max_sensitivity", linear_case()))


def test_faithfulness_is_scipys_and_methods_share_the_map_of_occlusion():
    case = linear_case(maps={0: RANDOM.normal(size=(SIZE, SIZE)), 1: WEIGHTS[1].sum(0)})
    rows = measured("faithfulness", case, patch=2)
    for row in rows:
        label = row["label"]
        pair = (case.saliency(label), (IMAGE * WEIGHTS[label]).sum(0))
        patches = [of.reshape(4, 2, 4, 2).mean((1, 3)).ravel() for of in pair]
        assert row["correlation"] == pytest.approx(spearmanr(*patches).statistic, abs=1e-6)
    asked = case.asked.asked
    measured("faithfulness", replace(case, method="layercam"), patch=2)
    assert case.asked.asked == asked == 2


def test_confidence_by_hand():
    rows = measured("confidence", linear_case())
    whole = softmax(np.einsum("chw,kchw->k", IMAGE, WEIGHTS))
    for row in rows:
        own = (IMAGE * WEIGHTS[row["label"]]).sum(0)
        weights = (own - own.min()) / (own.max() - own.min())
        seen = softmax(np.einsum("chw,kchw->k", IMAGE * weights, WEIGHTS))[row["label"]]
        before = whole[row["label"]]
        assert row["drop"] == pytest.approx(max(0, before - seen) / before, abs=1e-5)
        assert row["gain"] == pytest.approx(max(0, seen - before) / (1 - before), abs=1e-5)
        assert row["increase"] is bool(seen > before)


def test_areas_of_deletion_are_those_of_its_curves_and_plotted():
    rows = measured("deletion", linear_case(), steps=4)
    for row in rows:
        for area, curve in ((row["deletion"], row["gone"]), (row["insertion"], row["come"])):
            assert area == pytest.approx((curve[0] / 2 + sum(curve[1:-1]) + curve[-1] / 2) / 4, abs=1e-4)
        assert row["gone"][-1] == 0.5  # of a picture of the mean colour, by two classes
    plots = PROTOCOLS["deletion"].summarise([Of("a", "", "gradcam", rows)], ["0", "1"], steps=4).plots
    mean = np.mean([row["gone"] for row in rows], axis=0)
    assert np.allclose(plots[0].lines["gradcam"][1], mean)


def test_discrimination_leaves_out_what_objects_share():
    things = (thing(0, 0, 0, 4, 4), thing(1, 3, 0, 8, 4))
    shared = square(3, 0, 4, 4, 100.0)
    maps = {0: square(0, 0, 2, 2) + shared, 1: square(5, 0, 8, 4) + shared}
    own = measured("discrimination", linear_case(things, maps))
    assert own[:2] == [{"label": label, "own": True, "chance": 0.5} for label in (0, 1)]
    assert -1 <= own[2]["alike"] < 1
    swapped = measured("discrimination", linear_case(things, {0: maps[1], 1: maps[0]}))
    assert [row["own"] for row in swapped[:2]] == [False, False]
    assert measured("discrimination", linear_case(things[:1], maps)) == []


@pytest.fixture(scope="module")
def scenes_case():
    """A scene of two objects, by a Grad-CAM of which it is known that it points at both."""
    local = open_model("scenes", Settings())
    drawn = scene(3, objects=2)
    prepared = prepare(Image.fromarray(drawn.image), pad=128)
    explainer = Explainer(local)
    predicted = explainer.predict([{"image": prepared.pixels}])
    labels = [item.label for item in drawn.objects]
    things = tuple(Thing("", mask=lambda m=item.mask: m, index=item.label) for item in drawn.objects)
    (maps,) = explainer.maps(predicted, "gradcam", [labels])
    image, scores = predicted.image(0), predicted.score(0)
    return Case(Sample("3", bytes, things), "gradcam", prepared, image, scores, maps, explainer, 0)


def test_adversarial_noise_flips_the_label_within_its_bounds(scenes_case):
    (label,) = scenes_case.top(1)
    model = scenes_case.asked.model
    found = attacked(model, scenes_case.image, label, 8 / 255, 10)
    assert found.flipped
    std = np.array(model.card.preprocess.std)[:, None, None]
    assert abs((found.image - scenes_case.image) * std).max() <= 8 / 255 + 1e-6
    with no_grad():
        assert model.network.traced(from_numpy(found.image)[None]).argmax() != label
    (row,) = measured("robustness", scenes_case)
    assert row["flipped"] is True
    assert row["before"] is True
    changed = scenes_case.explain(found.image[None], label)[0]
    assert row["correlation"] == pytest.approx(
        spearmanr(scenes_case.saliency(label).ravel(), changed.ravel()).statistic, abs=1e-6
    )


@pytest.mark.parametrize(
    ("depth", "std", "low", "high"),
    [(8, 0.25, -2, 2), (16, -0.25, -2, 2), ("float", 0.25, 3, 7)],
    ids=["of 8 bits", "inverted", "numbers without a range"],
)
def test_adversarial_noise_stays_between_black_and_white(depth, std, low, high):
    card = Model(2).card
    takes = Takes(channels=1, depth=depth)
    card = msgspec.structs.replace(card, input=takes, preprocess=replace(card.preprocess, mean=(0.5,), std=(std,)))
    found = bounds(card, np.array([[[3.0, 5.0], [7.0, 4.0]]]), 0.1)
    assert (found.low.item(), found.high.item(), found.epsilon.item()) == (low, high, pytest.approx(0.4))


def test_what_methods_share_is_counted_once_and_all_that_is_counted_is_done(scenes_case, tmp_path):
    explainer = scenes_case.asked
    samples = collect(Source("scenes", limit=1), explainer.model.card.labels).samples
    known = [("faithfulness", {"patch": 16}), ("robustness", {"epsilon": 8.0, "steps": 1})]
    protocols = [Planned(name, PROTOCOLS[name], options) for name, options in known]
    totals = []
    for methods in (["gradcam"], ["gradcam", "layercam"]):
        plan, done = Plan(explainer, samples, methods, protocols), []
        with opened(tmp_path, resume=True) as journal:
            left = plan.left(journal)
            run(plan, journal, done.append)
            assert plan.left(journal) == 0
        assert sum(done) == left
        assert len(methods) == 2 or left == plan.total
        totals.append(plan.total)
    assert totals[1] - totals[0] == 1  # of the map of the noisy picture


def test_maps_of_gradcam_change_with_the_weights(scenes_case):
    before = scenes_case.asked.scores(scenes_case.image[None])
    (row,) = measured("sanity", scenes_case, stages=2)
    assert len(row["curves"]["rank"]) == 2
    assert row["rank"] < 0.9
    assert np.array_equal(scenes_case.asked.scores(scenes_case.image[None]), before)


def test_methods_that_ignore_the_weights_are_named():
    def of(method, ssim, rank):
        curves = {"ssim": [ssim, ssim], "rank": [rank, rank]}
        return Of("a", "", method, [{"ssim": ssim, "rank": rank, "curves": curves}])

    rows = [of("edges", 0.99, 0.98), of("smooth", 0.95, 0.1), of("gradcam", 0.3, 0.2), of("empty", None, None)]
    summary = PROTOCOLS["sanity"].summarise(rows, [], stages=2)
    (note,) = summary.notes
    assert note.startswith("edges:")
    assert summary.plots[0].lines["gradcam"] == ([0, 0.5, 1], [1, 0.3, 0.3])


def two_detectors(weight_of_the_mark):
    """Red is what class 1 is; blue is the mark in the corner, which a biased model takes for it, too."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    linear = nn.Linear(2, 2, bias=False)
    with no_grad():
        conv.weight.copy_(tensor([[1.0, -1, -1], [-1, -1, 1]])[:, :, None, None])
        linear.weight.copy_(tensor([[0.0, 0.0], [1.0, weight_of_the_mark]]))
    return Network(nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear), (3, 24, 24))


def marked_pictures(seed, count=30):
    """Red blobs anywhere; those of the first half have a blue mark in the corner at the bottom right."""
    random = np.random.default_rng(seed)
    pictures = random.uniform(0, 0.2, (count, 3, 24, 24)).astype(np.float32)
    for place, (y, x) in enumerate(random.integers(0, 19, (count, 2))):
        pictures[place, 0, y : y + 5, x : x + 5] = 1
        if place < count // 2:
            pictures[place, :, 20:, 20:] = np.array([0, 0, 1])[:, None, None]
    return pictures, ["marked" if place < count // 2 else "plain" for place in range(count)]


def found_in(network, seed):
    pictures, groups = marked_pictures(seed)
    maps = np.stack([maps_of(network, from_numpy(one)[None], "gradcam", (1,))[0].numpy() for one in pictures])
    return [one for one in differences(shares(maps, 3), groups, resamples=299) if one.found and one.difference > 0]


def test_a_planted_bias_is_found_and_an_unbiased_model_is_not_accused():
    biased, unbiased = two_detectors(3.0), two_detectors(0.0)
    for seed in range(20):
        assert ("marked", 8) in {(one.group, one.region) for one in found_in(biased, seed)}
    assert sum(bool(found_in(unbiased, 100 + seed)) for seed in range(20)) <= 1


def test_bias_names_the_group_and_the_place_and_draws_its_average_map():
    protocol, rows = PROTOCOLS["bias"], []
    for place in range(24):
        corner = place < 12
        maps = {0: square(0, 0, 3, 3) if corner else square(RANDOM.integers(3, 6), 3, 8, 8), 1: np.zeros((SIZE, SIZE))}
        case = linear_case((Thing("0", index=0),), maps)
        rows.append(Of(str(place), "a" if corner else "<b>", "gradcam", protocol.measure(case, cells=3)))
    summary = protocol.summarise(rows, [], cells=3)
    assert any("group 'a'" in note and "row 1, column 1" in note for note in summary.notes)
    ((columns, table),) = summary.tables.values()
    assert len(table) == 18
    assert len(columns) == len(table[0])
    drawing = summary.files["bias-gradcam.svg"]
    assert "&lt;b&gt;" in drawing
    assert drawing.count("<rect") == 2 * 14 * 14
    few = protocol.summarise(rows[:13], [], cells=3)
    assert "two groups" in few.notes[0]
