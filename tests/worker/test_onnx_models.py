"""ONNX files in the running service: explained where they can be, predicted where not, named where broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from safetensors.torch import load_file
from torch import nn

from api.calls import values
from gradcam_service.registry.repository import EMBEDDED
from gradcam_service.zoo.network import scenes_network
from live import Service, running_eagerly
from repository import ROOT

SCENES = EMBEDDED / "scenes" / "1"
YAML = """\
source: onnx
weights: model.onnx
activation: sigmoid
labels: labels.txt
runtime: eager
preprocess: {pad: 128, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
"""
SCENE = (ROOT / "service" / "gradcam_service" / "api" / "examples" / "scene.jpg").read_bytes()


class _Noise(CalibrationDataReader):
    def __init__(self) -> None:
        self._batches = iter([{"images": np.random.default_rng(0).standard_normal((8, 3, 128, 128), np.float32)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def exported(module: nn.Module, file: Path) -> None:
    torch.onnx.export(
        module,
        (torch.zeros(2, 3, 128, 128),),
        file,
        dynamo=False,
        input_names=["images"],
        output_names=["scores"],
        dynamic_axes={"images": {0: "batch"}, "scores": {0: "batch"}},
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The embedded model as an ONNX file, the same quantised, and one with an operator that nobody knows."""
    root = tmp_path_factory.mktemp("models")
    folders = {name: root / name / "1" for name in ("whole", "quantised", "broken")}
    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(YAML)
        (folder / "labels.txt").write_text((SCENES / "labels.txt").read_text())
    module = scenes_network().eval()
    module.load_state_dict(load_file(SCENES / "weights.safetensors"))
    exported(module, folders["whole"] / "model.onnx")
    quantize_static(
        folders["whole"] / "model.onnx",
        folders["quantised"] / "model.onnx",
        _Noise(),
        quant_format=QuantFormat.QOperator,
    )
    model = onnx.load(folders["whole"] / "model.onnx")
    model.graph.node.append(helper.make_node("Wobble", ["scores"], ["wobbled"], domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.output[0].name = "wobbled"
    onnx.save(model, folders["broken"] / "model.onnx")
    with running_eagerly(model_repository=root) as started:
        yield started


def explained(service: Service, model: str, **options: object) -> dict:
    answer = service.client.post(
        "/explain",
        files={"image": SCENE},
        data={"model": model, "target": ["star", "flower"], "output": "map", **options},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def test_an_onnx_file_is_explained_as_the_model_it_was_exported_from(service: Service):
    for method in ("gradcam", "gradcam_plus_plus", "guided_gradcam"):
        ours, theirs = explained(service, "whole", method=method), explained(service, "scenes", method=method)
        assert ours["predictions"][0]["label"] == theirs["predictions"][0]["label"]
        for one, other in zip(ours["explanations"], theirs["explanations"], strict=True):
            maps = [values(explanation["map"]) for explanation in (one, other)]
            assert maps[1].any()
            np.testing.assert_allclose(maps[0], maps[1], rtol=0, atol=1e-4 * np.abs(maps[1]).max())


def test_a_quantised_file_predicts_and_is_explained_without_gradients(service: Service):
    model = service.client.get("/models/quantised").json()
    assert model["state"] == "ready"
    assert model["memory"] > 300_000  # a byte for each of 400 thousand weights, about
    assert {"occlusion", "rise"} <= set(model["methods"])
    assert not {"gradcam", "layercam", "smoothgrad"} & set(model["methods"])
    refused = service.client.post("/explain", files={"image": SCENE}, data={"model": "quantised"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unsupported_method")
    assert "occlusion" in refused.json()["detail"]
    found = explained(service, "quantised", method="occlusion")
    assert {prediction["label"] for prediction in found["predictions"][:2]} == {"star", "flower"}
    assert all(np.isfinite(explanation["max"]) for explanation in found["explanations"])


def test_a_broken_file_is_listed_with_its_operator_and_the_others_answer(service: Service):
    model = service.client.get("/models/broken").json()
    assert model["state"] == "failed"
    assert "Wobble" in model["reason"]
    refused = service.client.post("/predict", files={"image": SCENE}, data={"model": "broken"})
    assert (refused.status_code, refused.json()["code"]) == (503, "model_failed")
    assert service.client.get("/readyz").status_code == 200
