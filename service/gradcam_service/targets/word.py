"""A word of a caption: its logit, given the words before it, is explained; of several tokens, the sum of theirs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gradcam_service.errors import BadOption, UnknownTarget, shortened
from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.objectives import Contrast, Logit, Objective
from gradcam_service.naming import did_you_mean
from gradcam_service.targets import TargetKind
from gradcam_service.tasks.captioning import Word, scores_of

if TYPE_CHECKING:
    import numpy as np

    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class ExplainedWord(Word):
    """The word that is explained."""

    chosen: Literal["request", "caption"]


class CaptionWord(TargetKind):
    """See `gradcam_service.targets.TargetKind`.

    A value is what was written, a word or its index in the caption, alone until that is known; then the index, and of
    each token that spells the word the place of its logit in what the network answers, position · tokens of the
    vocabulary + token. See `Captioning.settled`.
    """

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"word": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}},
        "required": ["word"],
        "additionalProperties": False,
        "description": 'of a caption, a word, 4 or {"word": 4}, by its index from 0, or "star" or {"word": "star"}, '
        "the first such",
    }
    described = ExplainedWord
    differentiable = True
    tasks = ("captioning",)

    def reads(self, written: object) -> bool:
        """Objects that say which word, and words and numbers themselves, as a captioner has no classes."""
        if isinstance(written, dict):
            return "word" in written
        return isinstance(written, int | str) and not isinstance(written, bool)

    def checked(self, written: Any, card: Card) -> Any:  # noqa: ANN401  JSON
        """The word or its index, in a list, as it is not settled yet."""
        if not isinstance(written, dict):
            written = {"word": int(written) if re.fullmatch("[0-9]{1,9}", str(written)) else written}
        word, text = written["word"], card.text
        if written.keys() != {"word"} or isinstance(word, bool) or not isinstance(word, int | str):
            raise BadOption(f"option 'target': {self.schema['description']}")
        assert text is not None
        if isinstance(word, str) and not text.knows(word):
            meant = did_you_mean(word, text.vocabulary)
            known = "" if text.tokenizer else f"; it knows {text.listed()}"
            raise UnknownTarget(f"the model doesn't know the word {shortened(word)!r}{meant}{known}")
        if isinstance(word, int) and not 0 <= word < text.words:
            raise UnknownTarget(f"there is no word {word}; captions have at most {text.words}, from 0")
        return [word]

    def objective(self, values: Sequence[Sequence[int]], outputs: Array) -> Objective:
        """The word's logit, or Σ y of the tokens that spell it. Rows with fewer are filled up with some of weight 0."""
        xp, device = arrays(outputs), outputs.device
        own = xp.asarray([places[0] for _, *places in values], device=device)
        others = [places[1:] for _, *places in values]
        longest = max(map(len, others))
        if longest == 0:
            return Logit(own, outputs.shape[1])
        padded = xp.asarray([row + [0] * (longest - len(row)) for row in others], device=device)
        added = xp.asarray([[-1.0] * len(row) + [0.0] * (longest - len(row)) for row in others], device=device)
        return Contrast(own, padded, added)

    def describe(
        self, value: Sequence[int], card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool
    ) -> ExplainedWord:
        """The word as the caption tells of it."""
        index, *places = value
        chosen: Literal["request", "caption"] = "request" if asked else "caption"
        own = scores_of(scores, [place // len(card.labels) for place in places])
        return ExplainedWord(index, self.name(value, card), *own, chosen)

    def name(self, value: Any, card: Card) -> str:  # noqa: ANN401  settled or not
        """The word, as the caption has it."""
        assert card.text is not None
        first, *places = value
        return card.text.written([place % len(card.labels) for place in places]) if places else str(first)


TARGET = CaptionWord()
