"""What `bench` times without HTTP, each side in a process of its own: what one leaves spinning would slow the other.

All but `busy` return the seconds that one call takes, once everything is warm.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from subprocess import PIPE, Popen
from time import perf_counter
from typing import Any

SIDE = 224


class Aside:
    """A process that computes one thing after the other; what it has made once it keeps.

    Args:
        environment: of that process, besides this one's.
    """

    def __init__(self, **environment: str) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (environment,))

    def run(self, compute: Callable[..., float], *arguments: object) -> float:
        """What ``compute(*arguments)`` says there."""
        return self._pool.submit(compute, *arguments).result()


def _begin(environment: dict[str, str]) -> None:
    os.environ.update(environment | {"TQDM_DISABLE": "1"})  # before torch is imported
    warnings.filterwarnings("ignore")


def _timed(call: Callable[[], object], times: int = 1) -> float:
    """The median of so many calls; of several, the first is not counted, which finds everything cold."""
    seconds = []
    for _ in range(times):
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    return median(seconds[1:] or seconds)


def has_bfloat16() -> float:
    """1 where the processor has units for bfloat16, else 0."""
    from gradcam_service.runtime import openvino

    return float(openvino.has_bfloat16())


def bare(architecture: str, batch: int, engine: str = "onnxruntime") -> float:
    """A network's bare forward pass in an `_forward` of that name as it comes."""
    return _timed(_bare(architecture, batch, engine), 6)


@cache
def _bare(architecture: str, batch: int, engine: str) -> Callable[[], object]:
    import numpy as np

    images = np.random.default_rng(0).standard_normal((batch, 3, SIDE, SIDE), np.float32)
    forward = partial(_forward(architecture, engine), images)
    forward()
    return forward


@cache
def _forward(architecture: str, engine: str) -> Callable[[Any], object]:
    """A network of random weights in ``onnxruntime``, or in ``openvino`` in float32 or bfloat16."""
    model = _exported(architecture)
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})
    from gradcam_service.runtime.openvino import core

    precision = {"openvino": "f32", "openvino-bfloat16": "bf16"}[engine]
    compiled = core().compile_model(core().read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda images: compiled(images)


@cache
def _exported(architecture: str) -> bytes:
    import io

    import timm
    import torch
    import torchvision

    torch.manual_seed(0)
    build = getattr(torchvision.models, architecture, partial(timm.create_model, architecture))
    module, example, file = build().eval(), (torch.zeros(1, 3, SIDE, SIDE),), io.BytesIO()
    torch.onnx.export(module, example, file, dynamo=False, input_names=["images"], dynamic_axes={"images": [0]})
    return file.getvalue()


def engine(repository: Path, name: str, batch: int, method: str | None, device: str = "cpu") -> float:
    """A batch through the worker's engine, pixels in; predicted, or explained as well."""
    return _timed(_engine(repository, name, batch, method, device), 1 if method == "scorecam" else 6)


def busy(repository: Path, name: str, batch: int, method: str, device: str, seconds: float = 5.0) -> float:
    """How much of the time the GPU is busy with batches one after the other, 0 to 1, by nvidia-smi."""
    run, end = _engine(repository, name, batch, method, device), perf_counter() + seconds
    asking = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]
    with Popen(asking, stdout=PIPE, text=True) as asked:
        while perf_counter() < end:
            run()
        asked.terminate()
        told = [int(percent) for percent in asked.communicate()[0].split()]
    return mean(told[len(told) // 5 :]) / 100  # the first ones are about what was before


@cache
def _engine(repository: Path, name: str, batch: int, method: str | None, device: str) -> Callable[[], object]:
    import numpy as np

    from gradcam_service.question import Question
    from gradcam_service.worker import engine

    model = _model(repository, name, device)
    side = model.card.preprocess.input_size[0]
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    inputs = [{"image": image} for image in pixels]
    questions = [None if method is None else Question(method)] * batch

    def run() -> None:
        for answer in engine.run(model, inputs, questions, 10_000).answers:
            if isinstance(answer, engine.Pending):
                answer.finish()

    run()
    return run


@cache
def _model(repository: Path, name: str, device: str) -> Any:  # noqa: ANN401
    import torch

    from gradcam_service.registry.acceleration import accelerated
    from gradcam_service.registry.loader import load
    from gradcam_service.registry.repository import scan

    entry = next(entry for entry in scan([str(repository)]) if entry.name == name)
    model = load(entry, torch.device(device))
    faster = accelerated(model)
    return model if isinstance(faster, str) else faster


def plain_loop(repository: Path, name: str, picture: bytes, count: int) -> float:
    """Pictures explained one after the other, decoded and rendered, without a server; of each."""
    from gradcam_service.core.options import ExplainOptions
    from gradcam_service.core.render import Renderer
    from gradcam_service.images.decode import decode
    from gradcam_service.images.geometry import prepare
    from gradcam_service.question import Question
    from gradcam_service.worker import engine

    model = _model(repository, name, "cpu")
    options, question = ExplainOptions(), Question("gradcam")

    def explained() -> None:
        prepared = prepare(decode(picture, 10**9), **model.card.preprocess.geometry())
        (answer,) = engine.run(model, [{"image": prepared.pixels}], [question], 10_000).answers
        renderer = Renderer(model.card, options, prepared, None)
        for explanation in renderer.undrawn(answer):  # type: ignore[arg-type]
            renderer.drawn(explanation)

    explained()
    return _timed(lambda: [explained() for _ in range(count)]) / count


def bare_loop(repository: Path, picture: bytes, count: int, explained: bool, engine: str = "onnxruntime") -> float:
    """Pictures decoded and put through the bare forward pass of `imagenet`, one after the other.

    Args:
        repository: for `_model`, which has what pictures become before and after.
        picture: a file.
        count: how often it is done.
        explained: whether a map is drawn of each, too, as for `/explain`.
        engine: that of `_forward`.

    Returns:
        Seconds of each.
    """
    import numpy as np

    from gradcam_service.core.options import ExplainOptions
    from gradcam_service.core.render import Renderer
    from gradcam_service.images.decode import decode
    from gradcam_service.images.geometry import prepare
    from gradcam_service.question import Question
    from gradcam_service.worker.engine import run

    model, forward = _model(repository, "imagenet", "cpu"), _forward("tf_efficientnet_lite0", engine)
    preprocess, options = model.card.preprocess, ExplainOptions()
    mean, std = (np.array(values, np.float32) for values in (preprocess.mean, preprocess.std))
    (answer,) = run(
        model,
        [{"image": prepare(decode(picture, 10**9), **preprocess.geometry()).pixels}],
        [Question("gradcam")],
        10_000,
    ).answers

    def once() -> None:
        prepared = prepare(decode(picture, 10**9), **preprocess.geometry())
        image = (prepared.pixels / np.float32(255) - mean) / std
        forward(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        if explained:
            renderer = Renderer(model.card, options, prepared, None)
            for explanation in renderer.undrawn(answer):  # type: ignore[arg-type]
                renderer.drawn(explanation)

    once()
    return _timed(lambda: [once() for _ in range(count)]) / count


def grad_cam_package(method: str) -> float:
    """pytorch-grad-cam's explanation of one image by ResNet-18."""
    return _timed(_grad_cam_package(method))


@cache
def _grad_cam_package(method: str) -> Callable[[], object]:
    import pytorch_grad_cam as package
    import torch
    import torchvision
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    image, targets = torch.randn(1, 3, SIDE, SIDE), [ClassifierOutputTarget(0)]
    if method == "guided_gradcam":
        guided, gradcam = package.GuidedBackpropReLUModel(model, "cpu"), package.GradCAM(model, [model.layer4])
        return lambda: (gradcam(image, targets), guided(image, 0))
    cam = {"scorecam": package.ScoreCAM, "ablationcam": package.AblationCAM}[method](model, [model.layer4])
    cam.batch_size = 32
    return lambda: cam(image, targets)
