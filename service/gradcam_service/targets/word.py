"""A word of a caption: its logit, given the words before it, is explained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gradcam_service.errors import BadOption, UnknownTarget, shortened
from gradcam_service.naming import did_you_mean
from gradcam_service.targets.class_ import Class
from gradcam_service.tasks.captioning import Word, scores_of

if TYPE_CHECKING:
    import numpy as np

    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class ExplainedWord(Word):
    """The word that is explained."""

    chosen: Literal["request", "caption"]


class CaptionWord(Class):
    """See `gradcam_service.targets.TargetKind`.

    A value is what was written, a word or its index in the caption, until that is known; then it is the place of the
    word's logit in what the network answers, index · words of the vocabulary + token. See `Captioning.settled`.
    """

    schema: dict[str, Any] = {  # noqa: RUF012  a constant
        "type": "object",
        "properties": {"word": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}},
        "required": ["word"],
        "additionalProperties": False,
        "description": 'of a caption, a word, 4 or {"word": 4}, by its index from 0, or "star" or {"word": "star"}, '
        "the first such",
    }
    described: type = ExplainedWord
    is_logit = False
    tasks: Sequence[str] = ("captioning",)

    def reads(self, written: object) -> bool:
        """Objects that say which word, and words and numbers themselves, as a captioner has no classes."""
        return (isinstance(written, dict) and "word" in written) or super().reads(written)

    def checked(self, written: Any, card: Card) -> Any:  # noqa: ANN401  JSON
        """The word or its index, in a list, as it is not settled yet."""
        if not isinstance(written, dict):
            written = {"word": int(written) if re.fullmatch("[0-9]{1,9}", str(written)) else written}
        word, text = written["word"], card.text
        if written.keys() != {"word"} or isinstance(word, bool) or not isinstance(word, int | str):
            raise BadOption(f"option 'target': {self.schema['description']}")
        assert text is not None
        if isinstance(word, str) and text.token(word) is None:
            meant = did_you_mean(word, text.vocabulary)
            raise UnknownTarget(f"the model doesn't know the word {shortened(word)!r}{meant}")
        if isinstance(word, int) and not 0 <= word < text.words:
            raise UnknownTarget(f"there is no word {word}; captions have at most {text.words}, from 0")
        return [word]

    def describe(self, value: int, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool) -> Any:  # noqa: ANN401  as `TargetKind`'s
        """The word as the caption tells of it."""
        index, token = divmod(value, len(card.labels))
        chosen: Literal["request", "caption"] = "request" if asked else "caption"
        return ExplainedWord(index, card.labels[token], *scores_of(scores, index), chosen)

    def name(self, value: Any, card: Card) -> str:  # noqa: ANN401  settled or not
        """The word."""
        return str(value[0]) if isinstance(value, list | tuple) else card.labels[value % len(card.labels)]


TARGET = CaptionWord()
