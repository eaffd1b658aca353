"""What the worker computes while its other thread loads."""

import threading

import numpy as np
import torch
from methods.networks import tiny

from gradcam_service.question import Question
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import scan
from gradcam_service.runtime import Workload, fastest
from gradcam_service.worker import engine
from gradcam_service.worker.messages import Answer
from worker import faulty


def test_an_operator_in_python_answers_while_another_model_is_traced(tmp_path):
    settings = faulty.write(tmp_path)
    (entry,) = (entry for entry in scan([tmp_path / "models"]) if entry.name == "faulty")
    model = load(entry, torch.device("cpu"), settings["python_path"])
    images = torch.zeros(2, 3, 24, 24)

    def trace():
        with torch.no_grad():
            for _ in range(3):
                fastest(tiny(), Workload(tiny().cut.backbone, images, 8), "onnxruntime")

    tracing = threading.Thread(target=trace)
    tracing.start()
    answers = []
    while tracing.is_alive():
        inputs = {"image": np.zeros((32, 32, 3), np.uint8)}
        (pending,) = engine.run(model, [inputs], [Question("occlusion")], 10_000).answers
        answers.append(pending.finish())
    assert answers
    assert all(isinstance(answer, Answer) for answer in answers)
