"""A service answers on eager PyTorch at first and then on a faster runtime; between the two no request notices."""

import numpy as np
import pytest
from PIL import Image

from api.calls import encoded, explain, predict, values
from gradcam_service.zoo.scenes import scene
from live import repeated, running_eagerly, until
from traces import keep_export

PICTURE = encoded(Image.fromarray(scene(3).image), "PNG")
YAML = """\
source: zoo
architecture: scenes
weights: random:{}
labels: [a, b, c, d, e, f, g, h, i, j, k, l]
preprocess: {{pad: 128, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
load: {}
runtime: {}
"""


MODELS = {
    "auto": (0, "demand", "auto"),
    "compile": (0, "start", "compile"),
    "cuda_graphs": (0, "demand", "cuda_graphs"),
    "eager": (0, "demand", "eager"),
    "onnxruntime": (1, "demand", "onnxruntime"),
    "ready": (0, "start", "onnxruntime"),
}
"""Whose weights each has, when it is loaded and the runtime it is to have: those of 0 have been exported before."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A service of these models, where no compiler is."""
    root = tmp_path_factory.mktemp("runtimes")
    for name, settings in MODELS.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(YAML.format(*settings))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CXX", "no-such-compiler")
        keep_export(root / "ready" / "1")
        with running_eagerly(model_repository=root, device="cpu") as started:
            yield started


def runtime_of(service, model):
    return service.client.get(f"/models/{model}").json()["runtime"]


def said(service, model):
    """Why a model stays as it is, as the log has it."""
    lines = [record for record in service.records() if record["message"] == "model stays on eager PyTorch"]
    return [record["reason"] for record in lines if record["model"] == f"{model}@1"]


def test_who_is_loaded_at_the_start_becomes_as_fast_as_it_gets(served):
    until(lambda: runtime_of(served, "ready") == "onnxruntime" and bool(said(served, "compile")))
    assert runtime_of(served, "compile") == "eager"


def test_answers_are_the_same_before_and_after_and_none_is_missing(served):
    runtimes, scores, maps = [], [], []

    def look(_):
        before = runtime_of(served, "onnxruntime") if scores else None
        answered = predict(served.client, PICTURE, model="onnxruntime", top_k=1000)
        scores.append({one["index"]: one["logit"] for one in answered})
        maps.append(values(explain(served.client, PICTURE, model="onnxruntime", target=[7], output=["map"])["map"]))
        runtimes.append(before)

    with repeated(look, 2, pause=0.2):
        until(lambda: "onnxruntime" in runtimes)
    assert "eager" in runtimes
    assert len(set(map(str, scores))) > 1  # it did change, by rounding
    for other in scores:
        assert max(abs(other[index] - logit) for index, logit in scores[0].items()) < 1e-4 * max(scores[0].values())
    assert all(np.abs(other - maps[0]).max() < 1e-3 * maps[0].max() for other in maps)


def test_the_fastest_is_chosen_where_nothing_is_said(served):
    assert predict(served.client, PICTURE, model="auto")
    until(lambda: runtime_of(served, "auto") != "eager" or said(served, "auto"))
    assert runtime_of(served, "auto") in ("onnxruntime", "openvino", "eager")
    assert all("of the time of eager" in reason for reason in said(served, "auto"))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("eager", "it stays as it is"),
        ("cuda_graphs", "cuda_graphs is not for a cpu device"),
        ("compile", "compile can't run it: InvalidCxxCompiler: No working C++ compiler found"),
    ],
)
def test_what_can_not_be_made_faster_answers_all_the_same_and_the_log_says_why(served, model, reason):
    first = predict(served.client, PICTURE, model=model)
    until(lambda: bool(said(served, model)))
    (why,) = said(served, model)
    assert why.startswith(reason)
    assert runtime_of(served, model) == "eager"
    assert predict(served.client, PICTURE, model=model) == first
