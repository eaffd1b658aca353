"""What an image shows, in words: a caption, of which each word is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from gradcam_service.errors import UnknownTarget
from gradcam_service.targets import Target
from gradcam_service.tasks import TextOption

if TYPE_CHECKING:
    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class Word:
    """One word of a caption and how the model scores it."""

    index: Annotated[int, Field(description="its place in the caption, from 0")]
    word: str
    logit: Annotated[float, Field(description="the score of the word, given those before it")]
    log_probability: Annotated[float, Field(description="natural logarithm, of the word given those before it")]

    def __str__(self) -> str:
        return f"{np.exp(self.log_probability):7.3f}  {self.index:4}  {self.word}"


@dataclass(frozen=True)
class Caption:
    """A text and its words."""

    text: str
    words: Annotated[list[Word], Field(description="in their order")]
    log_probability: Annotated[float, Field(description="the sum of the words'")]


@dataclass(frozen=True)
class Captioned:
    """Prediction of a captioner for one image."""

    caption: Annotated[Caption, Field(description="what the model says, or the text that it was given")]

    def __str__(self) -> str:
        return "\n".join([self.caption.text, *map(str, self.caption.words)])


class Captioning:
    """The task ``captioning``; see `gradcam_service.tasks.Task`.

    Scores are two for each word, its logit and its log-probability, ((T − 1) · 2,); the caption's tokens come beside
    them.
    """

    prediction = Captioned
    activations = ("softmax",)
    text = TextOption(
        "caption",
        "of a captioner, a text of your own in the place of the model's: how the model scores it, and its words are "
        "explained",
        required=False,
        spoken=True,
    )

    def predict(self, model: Card, scores: np.ndarray, top_k: int, tokens: np.ndarray) -> Captioned:
        """The caption whose tokens (T,) these are."""
        assert model.text is not None
        spoken = model.text.spoken(tokens)
        words = [Word(index, model.labels[token], *scores_of(scores, index)) for index, token in enumerate(spoken)]
        return Captioned(Caption(model.text.written(spoken), words, sum(word.log_probability for word in words)))

    def default_target(self, scores: np.ndarray) -> Target:
        """The first word, the only one of which something is known without the caption; see `settled`."""
        return Target("word", [0])

    def settled(self, targets: Sequence[Target], tokens: np.ndarray, card: Card) -> tuple[Target, ...]:
        """Words as the places of their logits in the scores, once the caption is known; every word for no targets.

        Raises:
            UnknownTarget: the caption has no such word.
        """
        assert card.text is not None
        spoken = card.text.spoken(tokens)
        indices = [_index(target.value[0], spoken, card) for target in targets] if targets else range(len(spoken))
        return tuple(Target("word", index * len(card.labels) + spoken[index]) for index in indices)


def scores_of(scores: np.ndarray, index: int) -> tuple[float, float]:
    """The logit and the log-probability of a word, by its place in its caption."""
    logit, log_probability = scores.reshape(-1, 2)[index].tolist()
    return logit, log_probability


def _index(word: int | str, spoken: Sequence[int], card: Card) -> int:
    """The place of a word in a caption."""
    assert card.text is not None
    if isinstance(word, int) and word < len(spoken):
        return word
    token = card.text.token(word) if isinstance(word, str) else None
    if token is not None and token in spoken:
        return spoken.index(token)
    said = f"the caption is {card.text.written(spoken)!r}" if spoken else "the caption is empty"
    raise UnknownTarget(f"{said}; it has no word {word!r}. Option caption has the words of another text explained")


TASK = Captioning()
