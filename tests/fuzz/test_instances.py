"""Damaged requests of KServe's V1 and of TorchServe: each is answered or refused, and no process dies of it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from api.calls import base64_of, encoded
from api.raw import part
from live import Service

from .test_images import PICTURE, damaged

FILE = encoded(PICTURE, "JPEG")
B64 = base64_of(FILE)
NUMBERS = np.asarray(PICTURE.resize((8, 8))).tolist()
FORM = "multipart/form-data; boundary=x"
REQUESTS = {
    "V1, base64": ("/v1/models/scenes:predict", {"instances": [{"b64": B64}], "parameters": {"top_k": 2}}),
    "V1, numbers": ("/v1/models/scenes:predict", {"instances": [NUMBERS, NUMBERS]}),
    "V1, columns and keys": ("/v1/models/scenes:explain", {"inputs": {"image": [{"b64": B64}], "key": [{"a": [1]}]}}),
    "TorchServe, envelope": ("/predictions/scenes", {"instances": [{"data": B64, "target": "star"}]}),
    "TorchServe, form": (
        "/explanations/scenes",
        part(['Content-Disposition: form-data; name="data"; filename="a.jpg"'], FILE) + b"--x--\r\n",
    ),
    "SageMaker, numbers": ("/invocations?model_name=scenes", {"data": NUMBERS}),
}
"""What is damaged: where it goes, and its JSON or its form."""


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_damaged_request_is_answered_or_refused(guarded: Service, kind: str, fuzz: bool):
    path, sent = REQUESTS[kind]
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    headers = {"Content-Type": FORM if isinstance(sent, bytes) else "application/json"}
    processes, statuses = guarded.lasting(), Counter[int]()
    for seed in range(1000 if fuzz else 25):
        answer = guarded.client.post(path, content=damaged(body, np.random.default_rng(seed)), headers=headers)
        statuses[answer.status_code] += 1
        assert answer.status_code in (200, 400, 404, 413, 415), (seed, answer.text)
    assert guarded.lasting() == processes  # none died
    assert statuses[400] > 0  # else nothing was damaged
