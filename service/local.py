"""Predict and explain in this process, without a server: the same rooms in the same order."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from service.api.answers import explanations, predictions
from service.api.schemas import ExplainOptions, ExplanationBody, PictureBody, Prediction
from service.errors import ServiceError
from service.images.canvas import backdrop
from service.images.decode import decode
from service.images.geometry import View, prepare
from service.images.grid import labelled_grid
from service.registry.loader import LoadedModel, load
from service.registry.repository import scan
from service.registry.spec import resolve
from service.settings import Settings
from service.worker.engine import Unfinished, pick_device, run
from service.worker.messages import Answer, Question


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
        _, view = self._look(path)
        return predictions(self.model.card, self._ask(view, None).scores, top_k)

    def explain(self, path: Path, options: ExplainOptions) -> list[ExplanationBody]:
        """Where the model looks for each target in a picture file.

        Raises:
            ServiceError: what is wrong with the file or the options.
        """
        card = self.model.card
        card.check_question(options.method, options.layer, options.method_options)
        targets = tuple(card.class_index(target) for target in options.target or [])
        image, view = self._look(path)
        answer = self._ask(view, Question(options.method, options.layer, targets, options.method_options))
        photo = backdrop(image, view, size=options.size, max_side=options.max_side)
        return explanations(card, answer, view, photo if "overlay" in options.outputs else None, options)

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

    def _look(self, path: Path) -> tuple[Image.Image, View]:
        image = decode(path.read_bytes(), self.settings.max_pixels)
        return image, prepare(image, **self.model.card.preprocess.geometry())

    def _ask(self, view: View, question: Question | None) -> Answer:
        (answer,) = run(self.model, [view.pixels], [question], self.settings.max_forward_passes).answers
        if isinstance(answer, ServiceError):
            raise answer
        while isinstance(answer, Unfinished):
            answer = answer.advance() or answer
        return answer


def _opened(picture: PictureBody) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.data)))


def open_model(reference: str | None, settings: Settings) -> Local:
    """Load the model that ``name``, ``name@version`` or ``name@alias`` means; None for the default.

    Raises:
        UnknownModel: there is none.
        ModelFailed: it can't be loaded.
    """
    entries = {entry.key: entry for entry in scan(settings.model_repository)}
    key = resolve([entry.unloaded() for entry in entries.values()], reference or settings.default_model).key
    return Local(key, load(entries[key], pick_device(settings.device)), settings)
