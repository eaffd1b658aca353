"""A GPU says what a CPU says."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from api.calls import encoded, explain, predict, values
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.images.geometry import prepare
from gradcam_service.question import Question
from gradcam_service.registry.checks import examine
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import scan
from gradcam_service.targets import Target
from gradcam_service.worker import engine
from gradcam_service.zoo.scenes import scene
from live import running

DEVICE = "cuda:0"
PICTURE = Image.fromarray(scene(3).image)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    """Convolutions in float32, where cuDNN would round to TF32."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


@cache
def scenes(device):
    return load(next(entry for entry in scan([]) if entry.name == "scenes"), torch.device(device))


def explained(device, method):
    model = scenes(device)
    pixels = prepare(PICTURE, **model.card.preprocess.geometry()).pixels
    questions = [Question(method, targets=(Target("class_", 2), Target("class_", 5))), None, Question(method)]
    answers = engine.run(model, [{"image": pixels}] * 3, questions, 10_000).answers
    return [answer.finish() if isinstance(answer, engine.Pending) else answer for answer in answers]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_the_same_map(method):
    for found, expected in zip(explained(DEVICE, method), explained("cpu", method), strict=True):
        assert found.targets == expected.targets
        assert np.abs(found.scores - expected.scores).max() < 1e-3
        assert np.abs(found.maps - expected.maps).max(initial=0) <= 1e-2 * np.abs(expected.maps).max(initial=0)


def test_one_logit_has_a_gradient_there():
    features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(nn.Sequential(*features, nn.Linear(8, 1)).eval(), (3, 32, 32), activation="sigmoid")
    assert examine(network.to(torch.device(DEVICE)), 3, (32, 32), torch.device(DEVICE)).lacking == {}


def test_the_service_answers_from_its_graphs():
    picture, asked = encoded(PICTURE, "PNG"), {"target": [2], "output": ["map"]}
    with running(device="cpu") as service:
        scores = predict(service.client, picture, top_k=12)
        cam = values(explain(service.client, picture, **asked)["map"])
    with running(device=DEVICE) as service:
        described = service.client.get("/models/scenes").json()
        assert (described["device"], described["runtime"]) == ([DEVICE], "cuda_graphs")
        for one, other in zip(predict(service.client, picture, top_k=12), scores, strict=True):
            assert one["label"] == other["label"]
            assert one["logit"] == pytest.approx(other["logit"], abs=0.05)  # TF32
        assert np.abs(values(explain(service.client, picture, **asked)["map"]) - cam).max() < 0.05 * cam.max()
