"""Predictors of KServe in a few lines each, of one little model whose scores are worked out by NumPy."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

SIZE = 16
WEIGHTS = np.random.default_rng(0).normal(size=(5, 3 * 4 * 4))


def scored(images: np.ndarray) -> np.ndarray:
    """Scores (N, 5) float64 of images (N, 3, 16, 16)."""
    tiles = images.astype(np.float64).reshape(-1, 3, 4, 4, 4, 4).mean((3, 5))
    return np.tanh(tiles.reshape(len(images), -1) @ WEIGHTS.T)


Answer = tuple[int, Any]
Respond = Callable[[str, dict[str, Any]], Answer]
"""Path and JSON of a request, an empty object for GET → status and JSON, or its pieces."""


@contextmanager
def serving(respond: Respond) -> Iterator[str]:
    """A server on a free port: host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*respond(self.path, {}))

        def do_POST(self) -> None:
            self._answer(*respond(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _answer(self, status: int, body: Any) -> None:
            self.send_response(status)
            self.end_headers()
            pieces = body if isinstance(body, Iterator) else [json.dumps(body)]
            with suppress(ConnectionError):  # who asked has given up
                for piece in pieces:
                    self.wfile.write(piece.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def v1(name: str, order: str = "nchw") -> Respond:
    """A model of V1 whose instances are nested numbers, or pictures in base64."""

    def read(instance: Any) -> np.ndarray:
        if order == "png":
            picture = Image.open(io.BytesIO(base64.b64decode(instance["image_bytes"]["b64"])))
            return np.asarray(picture).transpose(2, 0, 1) / 255
        values = np.array(instance)
        return values if order == "nchw" else values.transpose(2, 0, 1)

    def respond(path: str, body: dict[str, Any]) -> Answer:
        if path == f"/v1/models/{name}":
            return 200, {"name": name, "ready": True}
        if path == f"/v1/models/{name}:predict":
            return 200, {"predictions": scored(np.stack([read(one) for one in body["instances"]])).tolist()}
        return 404, {"error": f"Model with name {path} does not exist."}

    return respond


def v2(name: str, datatype: str, shape: list[int]) -> Respond:
    """A model of V2 that takes tensors in JSON."""

    def read(tensor: dict[str, Any]) -> np.ndarray:
        if datatype == "BYTES":
            pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in tensor["data"]]
            return np.stack([np.asarray(picture).transpose(2, 0, 1) / 255 for picture in pictures])
        values = np.array(tensor["data"]).reshape(tensor["shape"])
        values = values.transpose(0, 3, 1, 2) if shape[-1] == 3 else values
        return values / 255 if datatype == "UINT8" else values

    def respond(path: str, body: dict[str, Any]) -> Answer:
        described = {"name": "x", "datatype": datatype, "shape": shape}
        known = {
            "/v2": {"name": "little", "extensions": []},
            f"/v2/models/{name}/ready": {"ready": True},
            f"/v2/models/{name}": {
                "name": name,
                "inputs": [described],
                "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 5]}],
            },
        }
        if path in known:
            return 200, known[path]
        if path != f"/v2/models/{name}/infer":
            return 404, {"error": "unknown"}
        (tensor,) = body["inputs"]
        scores = scored(read(tensor))
        outputs = [{"name": "y", "datatype": "FP64", "shape": list(scores.shape), "data": scores.ravel().tolist()}]
        return 200, {"model_name": name, "outputs": outputs}

    return respond
