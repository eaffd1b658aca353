"""Gallery of one picture: every method's maps side by side, by a model in this process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from PIL import Image

from gradcam_service.core.options import ExplainOptions
from gradcam_service.core.options import Image as Picture
from gradcam_service.core.questions import inputs_beside, question
from gradcam_service.core.render import Renderer
from gradcam_service.errors import ServiceError, UnsupportedMethod
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.grid import labelled_grid
from gradcam_service.inputs._sent import received
from gradcam_service.local import Local
from gradcam_service.maps import MapKind
from gradcam_service.question import Question


def gallery(
    local: Local, name: str, data: Picture, options: ExplainOptions, methods: Iterable[str]
) -> tuple[Image.Image, list[str]]:
    """A labelled grid: the picture, then every method's for each target, and what their colours mean.

    Each method takes those of the options that it has. Maps of signed colours are shown as they are, all others
    over the picture.

    Args:
        local: the model.
        name: of the picture.
        data: the picture, encoded.
        options: for all methods; what is drawn is not among them.
        methods: in the order of the grid.

    Returns:
        The grid, and what to say of it: warnings about the picture, why methods are left out that can't explain
        these targets or this layer, or don't take an option's value, and which maps are empty.

    Raises:
        ServiceError: what is wrong with it or the options.
    """
    card = local.model.card
    seen = received(data, card.input, card.preprocess, local.settings.max_pixels)
    renderer = Renderer.of(seen, options.model_copy(update={"output": ["overlay"], "legend": False}), card)
    tiles = [(name, seen.original())]
    kinds: set[MapKind] = set()
    notes = list(seen.warnings)
    renderers: list[Renderer] = []
    questions: list[Question | None] = []
    for method in methods:
        known = METHODS[method]
        if wrong := known.wrong_with(options.method_options):
            notes.append(f"{method} is left out: {wrong}")
            continue
        of_others = dict.fromkeys(options.method_options.keys() - known.options)
        own = renderer.options.model_copy(update={"method": method, **of_others})
        try:
            questions.append(question(own, card, local.settings.max_targets))
        except UnsupportedMethod as error:
            notes.append(error.detail)
        else:
            renderers.append(replace(renderer, options=own))
    answers = local.explained({**seen.inputs, **inputs_beside(options, card)}, questions)
    for renderer, answer in zip(renderers, answers, strict=True):
        if isinstance(answer, UnsupportedMethod):
            notes.append(answer.detail)
            continue
        if isinstance(answer, ServiceError):
            raise answer
        for explanation, shown in renderer.shown(answer):
            tiles.append((f"{explanation.name}: {explanation.method}", shown))
            kinds.add(explanation.kind)
            if explanation.empty:
                notes.append(f"{explanation.name}: {explanation.method} is empty, {explanation.emptiness}")
    return labelled_grid(tiles, kinds, options.colormap), notes
