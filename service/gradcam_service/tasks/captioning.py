"""Captioning, an image in words: a caption, of which each word is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from gradcam_service.errors import UnknownTarget
from gradcam_service.explain.method import Option
from gradcam_service.targets import Target
from gradcam_service.tasks import Entries, Labelled, Task, TextOption
from gradcam_service.text import BEAM, Text, same
from gradcam_service.text import Word as Spelled

if TYPE_CHECKING:
    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class Word:
    """One word of a caption and how the model scores it."""

    index: Annotated[int, Field(description="its place in the caption, from 0")]
    word: str
    logit: Annotated[
        float,
        Field(description="the score of the word, given those before it; the sum of its tokens' where it has several"),
    ]
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


class Captioning(Task):
    """The task ``captioning``; see `gradcam_service.tasks.Task`.

    Scores are two for each token, its logit and its log-probability, ((T − 1) · 2,); the caption's tokens come beside
    them.
    """

    prediction = Captioned
    entries = Entries("word", "words", "What it says", "caption.words", "word")
    of_classes = False
    activations = ("softmax",)
    text = TextOption(
        "caption",
        "of a captioner, a text of your own in the place of the model's: how the model scores it, and its words are "
        "explained",
        required=False,
        label="Another caption",
        action="Explain",
        back="The model’s own",
        spoken=True,
    )
    options: ClassVar[Mapping[str, Option]] = {
        BEAM: Option(
            default=1,
            description="of a captioner, how many captions are followed at once in search of the most probable one, "
            "each of whose words costs a pass of the decoder; 1: the most probable word follows each time",
            ge=1,
            le=8,
        )
    }

    def predict(
        self, model: Labelled, scores: np.ndarray, top_k: int, tokens: Sequence[int] | None = None
    ) -> Captioned:
        """The caption whose tokens (T,) these are."""
        assert model.text is not None
        assert tokens is not None
        spoken = model.text.spoken(tokens)
        words, at = [], 0
        for index, word in enumerate(model.text.words_of(spoken)):
            words.append(Word(index, word.text, *scores_of(scores, range(at, at + len(word.tokens)))))
            at += len(word.tokens)
        return Captioned(Caption(model.text.written(spoken), words, sum(word.log_probability for word in words)))

    def default_target(self, scores: np.ndarray) -> Target:
        """The first word, the only one of which something is known without the caption; see `settled`."""
        return Target("word", [0])

    def settled(self, targets: Sequence[Target], tokens: Sequence[int], card: Card) -> tuple[Target, ...]:
        """Words, once the caption is known, as their index and the places of their tokens' logits in the scores.

        Every word for no targets.

        Raises:
            UnknownTarget: the caption has no such word.
        """
        assert card.text is not None
        spoken = card.text.spoken(tokens)
        words = card.text.words_of(spoken)
        indices = [_index(target.value[0], words, card.text) for target in targets] if targets else range(len(words))
        places = [at * len(card.labels) + token for at, token in enumerate(spoken)]
        starts = [0, *accumulate(len(word.tokens) for word in words)]
        return tuple(Target("word", [index, *places[starts[index] : starts[index + 1]]]) for index in indices)


def scores_of(scores: np.ndarray, positions: Sequence[int]) -> tuple[float, float]:
    """The logit and the log-probability of a word, by the places of its tokens in the caption: the sums of theirs."""
    logit, log_probability = scores.reshape(-1, 2)[[*positions]].astype(np.float64).sum(0).tolist()
    return logit, log_probability


def _index(word: int | str, words: Sequence[Spelled], text: Text) -> int:
    """The place of a word in a caption."""
    if isinstance(word, int) and word < len(words):
        return word
    found = [index for index, own in enumerate(words) if isinstance(word, str) and same(own.text, word)]
    if found:
        return found[0]
    written = text.written([token for own in words for token in own.tokens])
    said = f"the caption is {written!r}" if words else "the caption is empty"
    raise UnknownTarget(f"{said}; it has no word {word!r}. Option caption has the words of another text explained")


TASK = Captioning()
