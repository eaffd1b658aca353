"""Compiled models in bfloat16: OpenVINO computes in it on any processor, slowly where there are no units for it."""

from dataclasses import replace

import numpy as np
import pytest

from gradcam_service.compiled.model import CompiledModel, opened
from gradcam_service.compiled.network import CompiledNetwork
from gradcam_service.registry.acceptance import compare
from gradcam_service.registry.loading import load
from gradcam_service.runtime import Contender, openvino

from .test_compiled import altered, entry


@pytest.fixture
def model(tmp_path, monkeypatch) -> CompiledModel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(openvino, "has_bfloat16", lambda: True)  # else it is not asked for
    folder = altered(tmp_path, "scenes")
    with (folder / "model.yaml").open("a") as file:
        file.write("runtime: openvino\n")  # by name, as it need not be the faster one here
    return load(entry(folder), "cpu")


def in_bfloat16(model: CompiledModel) -> CompiledNetwork:
    return opened(model.folder, model.manifest, model.spec, "openvino", "bfloat16")


def test_what_is_before_the_cut_computes_in_bfloat16_and_what_is_behind_it_in_float32(model):
    network, (images, *_) = in_bfloat16(model), model.real_batches()
    (exact, _), (found, scores) = model.network.predict(images), network.predict(images)
    difference = np.abs(found.features - exact.features).max() / np.abs(exact.features).max()
    assert 2**-12 < difference < 0.2  # bfloat16 has 8 bits, float32 24
    assert found.features.dtype == np.float32
    expected = model.network.cut.head.scores(found)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_maps_of_real_pictures_are_those_of_float32(model):
    figures = compare(model.network, in_bfloat16(model), model.real_batches())
    assert figures.accepted
    assert figures.cosine >= 0.999
    assert figures.pictures >= 5


def test_it_is_taken_where_it_is_asked_for_and_by_the_next_start_without_a_race(model, monkeypatch):
    faster = model.accelerated("bfloat16", 0)
    assert (faster.card.runtime, faster.card.precision) == ("openvino", "bfloat16")
    assert faster.card.digest != model.card.digest
    again = load(entry(model.folder), "cpu")
    assert (again.card.precision, again.card.digest) == ("float32", model.card.digest)
    monkeypatch.delattr(CompiledModel, "_race")
    taken = again.accelerated("bfloat16", 0)
    assert (taken.card.precision, taken.card.digest) == ("bfloat16", faster.card.digest)


def test_it_is_not_taken_where_maps_differ(model):
    backbone = in_bfloat16(model).cut.backbone

    def blurred(*images: np.ndarray) -> list[np.ndarray]:
        features, *rest = backbone(*images)
        return [features + features.mean((2, 3), keepdims=True), *rest]

    cut = replace(model.network.cut, backbone=blurred)
    network = replace(model.network, cuts={cut.layer.name: cut})
    assert "maps have a cosine of at least" in model._unlike(Contender("openvino", "bfloat16", network))
    assert model._unlike(Contender("openvino", "bfloat16", in_bfloat16(model))) == ""
