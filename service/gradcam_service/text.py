"""Text that a model takes beside a picture: words and the tokens that they are. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gradcam_service.errors import BadOption, shortened
from gradcam_service.naming import did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENS = "tokens"
"""The input's name in jobs: (T,) int64, filled up with padding at its right."""

_PAD = ("<pad>", "[PAD]", "<|pad|>", "<|endoftext|>")
_START = ("<start>", "<s>", "[CLS]", "[BOS]", "<bos>", "<|startoftext|>", "<|endoftext|>")
_END = ("<end>", "</s>", "[SEP]", "[EOS]", "<eos>", "<|endoftext|>")
_UNKNOWN = ("<unknown>", "<unk>", "[UNK]")


class Text(msgspec.Struct, frozen=True, dict=True):
    """Text that a model takes, as its card tells.

    Attributes:
        vocabulary: the word of each token.
        length: T, how many tokens the network takes, special ones included.
        tokenizer: content of Hugging Face's ``tokenizer.json``; empty where words are those of the vocabulary.
    """

    vocabulary: list[str]
    length: int
    tokenizer: str = ""

    @cached_property
    def pad(self) -> int:
        """The token that fills up the right end; 0 where none is called so."""
        return self._special(_PAD) or 0

    @cached_property
    def start(self) -> int | None:
        """The token that a caption begins with."""
        return self._special(_START)

    @cached_property
    def end(self) -> int | None:
        """The token that ends a caption."""
        return self._special(_END)

    @cached_property
    def unknown(self) -> int | None:
        """The token of words that there is no other for."""
        return self._special(_UNKNOWN)

    @property
    def words(self) -> int:
        """Most words of a caption, before which its start is."""
        return self.length - 1

    def question(self, option: str, written: str) -> np.ndarray:
        """A question as tokens (T,) int64.

        Raises:
            BadOption: it is empty or too long, or has words that the model doesn't know.
        """
        return self._filled(self._read(option, written, self.length))

    def caption(self, option: str, written: str) -> np.ndarray:
        """A caption as tokens (T,) int64, its start before it.

        Raises:
            BadOption: as for `question`.
        """
        return self.begun(self._read(option, written, self.words))

    def begun(self, words: Sequence[int] = ()) -> np.ndarray:
        """Tokens (T,) int64 of a caption so far."""
        assert self.start is not None  # seen to when the model is loaded
        return self._filled([self.start, *words])

    def example(self) -> np.ndarray:
        """Tokens (T,) int64 of no text in particular."""
        special = {self.pad, self.start, self.end}
        own = [token for token in range(len(self.vocabulary)) if token not in special] or [self.pad]
        words = [own[at % len(own)] for at in range(self.words)]
        return self._filled(words if self.start is None else [self.start, *words])

    def spoken(self, tokens: np.ndarray) -> list[int]:
        """The words of a caption's tokens (T,), without its start, end and padding."""
        ends = {self.pad, self.end}
        words: list[int] = tokens[1:].tolist()
        return words[: next((at for at, token in enumerate(words) if token in ends), len(words))]

    def written(self, words: Sequence[int]) -> str:
        """A caption as text."""
        if self.tokenizer:
            return str(_tokenizer(self.tokenizer).decode(list(words), skip_special_tokens=False)).strip()
        return " ".join(self.vocabulary[word] for word in words)

    def token(self, word: str) -> int | None:
        """The token that a word is by itself; None where it is none."""
        found = self._split(word)
        return found[0][1] if len(found) == 1 else None

    def _special(self, names: Sequence[str]) -> int | None:
        return next((self._tokens[name] for name in names if name in self._tokens), None)

    def _filled(self, tokens: Sequence[int]) -> np.ndarray:
        return np.array([*tokens, *[self.pad] * (self.length - len(tokens))], np.int64)

    def _read(self, option: str, written: str, most: int) -> list[int]:
        found = self._split(written)
        strange = list(dict.fromkeys(word for word, token in found if token is None))
        if strange and self.unknown is None:
            meant = did_you_mean(strange[0], self.vocabulary)
            first, *others = (repr(shortened(word)) for word in strange[:10])
            named = ", ".join([f"{first}{meant}", *others])
            raise BadOption(f"option {option!r}: the model doesn't know {named}; it knows {self._known()}")
        if not found:
            raise BadOption(f"option {option!r} has no words; it takes up to {most}")
        if len(found) > most:
            raise BadOption(f"option {option!r} has {len(found)} words; the model takes at most {most}")
        return [self.unknown if token is None else token for _, token in found]  # type: ignore[misc]

    def _split(self, written: str) -> list[tuple[str, int | None]]:
        """The words of a text, and their tokens."""
        if self.tokenizer:
            found = _tokenizer(self.tokenizer).encode(written, add_special_tokens=False)
            return list(zip(found.tokens, found.ids, strict=True))
        words = re.sub(r"[^\w\s]", "", written.lower()).split()
        return [(word, self._tokens.get(word)) for word in words]

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary)}

    def _known(self, most: int = 60) -> str:
        own = [word for word in self.vocabulary if word not in (*_PAD, *_START, *_END, *_UNKNOWN)]
        return ", ".join(own[:most]) + (f" and {len(own) - most} more" if len(own) > most else "")


def text_of(content: str, name: str, length: int) -> Text:
    """Text as a file tells: ``tokenizer.json`` of Hugging Face, or a vocabulary, a word a line.

    Raises:
        ValueError: it is neither.
    """
    if name.lower().endswith(".json"):
        try:
            vocabulary = _tokenizer(content).get_vocab(with_added_tokens=True)
        except Exception as error:  # of the library's own class
            raise ValueError(f"no tokenizer of Hugging Face's tokenizers: {error}") from error
        words = [""] * (max(vocabulary.values(), default=-1) + 1)
        for word, token in vocabulary.items():
            words[token] = word
        return Text(words, length, content)
    words = [line.strip() for line in content.rstrip().split("\n")]
    if empty := [number for number, word in enumerate(words, 1) if not word]:
        raise ValueError(f"a vocabulary is a word a line; line {empty[0]} is empty")
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise ValueError(f"a vocabulary has each word once; {twice!r} is in it twice")
    return Text(words, length)


@lru_cache(8)
def _tokenizer(content: str) -> Tokenizer:
    from tokenizers import Tokenizer  # which most models don't need

    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
