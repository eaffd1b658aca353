"""Predict and explain in this process, without a server: the same rooms in the same order."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from PIL import Image

from gradcam_service.api.answers import explanations, model_body, predictions
from gradcam_service.api.schemas import ExplainOptions, ExplanationBody, ModelBody, PictureBody, Prediction
from gradcam_service.errors import ModelFailed, ServiceError
from gradcam_service.images.canvas import backdrop
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import PreparedImage, prepare
from gradcam_service.images.grid import labelled_grid
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.repository import scan
from gradcam_service.registry.spec import resolve
from gradcam_service.settings import Settings
from gradcam_service.worker.engine import Pending, pick_device, run
from gradcam_service.worker.messages import Answer, Question


@dataclass(frozen=True)
class Local:
    """A model loaded into this process.

    Attributes:
        key: ``name@version``.
    """

    key: str
    model: LoadedModel
    settings: Settings

    def predict(self, path: Path, top_k: int) -> list[Prediction]:
        """The most probable classes of a picture file.

        Raises:
            ServiceError: what is wrong with it.
        """
        _, prepared = self._look(path)
        return predictions(self.model.card, self._ask(prepared, None).scores, top_k)

    def explain(self, path: Path, options: ExplainOptions) -> list[ExplanationBody]:
        """Where the model looks for each target in a picture file.

        Raises:
            ServiceError: what is wrong with the file or the options.
        """
        card = self.model.card
        card.check_question(options.method, options.layer, options.method_options)
        targets = tuple(card.class_index(target) for target in options.target or [])
        image, prepared = self._look(path)
        answer = self._ask(prepared, Question(options.method, options.layer, targets, options.method_options))
        photo = backdrop(image, prepared, size=options.size, max_side=options.max_side)
        return explanations(card, answer, prepared, photo if "overlay" in options.outputs else None, options)

    def gallery(self, path: Path, options: ExplainOptions, methods: Iterable[str]) -> Image.Image:
        """A labelled grid: the picture, then every method's for each target.

        Heat is shown over the picture, signed maps of colours as they are.

        Raises:
            ServiceError: what is wrong with the file or the options.
        """
        image, _ = self._look(path)
        tiles = [(path.name, image)]
        for method in methods:
            asked = options.model_copy(update={"method": method, "output": ["heatmap", "overlay"], "format": "png"})
            for explanation in self.explain(path, asked):
                assert explanation.heatmap is not None
                assert explanation.overlay is not None
                heat = _opened(explanation.heatmap)
                shown = heat if heat.mode == "RGB" else _opened(explanation.overlay)
                tiles.append((f"{explanation.target.label}: {method}", shown))
        return labelled_grid(tiles)

    def _look(self, path: Path) -> tuple[Image.Image, PreparedImage]:
        image = decode(path.read_bytes(), self.settings.max_pixels)
        return image, prepare(image, **self.model.card.preprocess.geometry())

    def _ask(self, prepared: PreparedImage, question: Question | None) -> Answer:
        (answer,) = run(self.model, [prepared.pixels], [question], self.settings.max_forward_passes).answers
        if isinstance(answer, ServiceError):
            raise answer
        return answer.finish() if isinstance(answer, Pending) else answer


def _opened(picture: PictureBody) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.data)))


def load_all(settings: Settings) -> Iterator[ModelBody]:
    """Load every model version in the repositories, one after the other, and tell of it as ``GET /models`` would.

    Raises:
        ModelFailed: a repository can't be read.
    """
    listing, device = scan(settings.model_repository), pick_device(settings.device)
    for entry, model in zip(listing, listing.models(), strict=True):
        try:
            card = load(entry, device, settings.python_path).card
            yield model_body(msgspec.structs.replace(model, state="ready", card=card), [str(device)])
        except ModelFailed as error:
            yield model_body(msgspec.structs.replace(model, state="failed", reason=error.detail), [])


def open_model(reference: str | None, settings: Settings) -> Local:
    """Load the model that ``name``, ``name@version`` or ``name@alias`` means; None for the default.

    Raises:
        UnknownModel: there is none.
        ModelFailed: it can't be loaded.
    """
    listing = scan(settings.model_repository)
    key = resolve(listing.models(), reference or settings.default_model).key
    entry = next(entry for entry in listing if entry.key == key)
    return Local(key, load(entry, pick_device(settings.device), settings.python_path), settings)
