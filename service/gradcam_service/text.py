"""Text that a model takes beside a picture: words and the tokens that they are. Torch-free."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from gradcam_service.errors import BadOption, shortened
from gradcam_service.naming import did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENS = "tokens"
"""The input's name in jobs: (T,) int64, filled up with padding at its right."""
BEAM = "beam"
"""What comes beside it in jobs of captioners: () int64, how many captions are followed at once."""

_PAD = ("<pad>", "[pad]", "<|pad|>", "<|endoftext|>")
_START = (
    "<start>",
    "<sos>",
    "<bos>",
    "<s>",
    "[start]",
    "[bos]",
    "[cls]",
    "<|startoftext|>",
    "<|endoftext|>",
    "startseq",
)
_END = ("<end>", "<eos>", "</s>", "[end]", "[eos]", "[sep]", "<|endoftext|>", "endseq")
_UNKNOWN = ("<unknown>", "<unk>", "<oov>", "[unk]")
"""What special tokens are called, in any case; the first that there is counts."""


class Word(NamedTuple):
    """A word of a text and the tokens that spell it, of which a vocabulary has one for each word."""

    text: str
    tokens: tuple[int, ...]


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
        """The token that fills up the right end, which is that of a caption where there is no other."""
        found = self._special(_PAD)
        return found if found is not None else self.end or 0

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
        """Most tokens of a caption, before which its start is: of a vocabulary, words."""
        return self.length - 1

    def question(self, option: str, written: str) -> np.ndarray:
        """A question as tokens (T,) int64, with what a tokenizer puts around any text.

        Raises:
            BadOption: it is empty or too long, or has words that the model doesn't know.
        """
        return self._filled(self._read(option, written, self.length, around=True))

    def caption(self, option: str, written: str) -> np.ndarray:
        """A caption as tokens (T,) int64, its start before it.

        Raises:
            BadOption: as for `question`.
        """
        return self.begun(self._read(option, written, self.words, around=False))

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

    def spoken(self, tokens: Sequence[int]) -> list[int]:
        """The words of a caption's tokens, without its start, end and padding."""
        ends = {self.pad, self.end}
        words = [int(token) for token in tokens[1:]]
        return words[: next((at for at, token in enumerate(words) if token in ends), len(words))]

    def written(self, tokens: Sequence[int]) -> str:
        """Tokens as text."""
        if self.tokenizer:
            return str(_tokenizer(self.tokenizer).decode(list(tokens), skip_special_tokens=False)).strip()
        return " ".join(self.vocabulary[token] for token in tokens)

    def words_of(self, tokens: Sequence[int]) -> list[Word]:
        """The words that tokens spell: of a tokenizer, what stands between blanks in the text that they are."""
        if not self.tokenizer:
            return [Word(self.vocabulary[token], (token,)) for token in tokens]
        spelled: list[list[int]] = []
        for at, token in enumerate(tokens, 1):
            if spelled and len(self.written(tokens[:at]).split()) <= len(spelled):
                spelled[-1].append(token)
            else:
                spelled.append([token])
        return [Word(self.written(own), tuple(own)) for own in spelled]

    def knows(self, word: str) -> bool:
        """Whether a caption may have a word."""
        found = self._split(word, around=False)
        return len(found) > 0 and all(token not in (None, self.unknown) for _, token in found)

    def _special(self, names: Sequence[str]) -> int | None:
        return next((self._places[name] for name in names if name in self._places), None)

    @cached_property
    def _places(self) -> dict[str, int]:
        """The first token of each name, in lower case."""
        found: dict[str, int] = {}
        for token, word in enumerate(self.vocabulary):
            found.setdefault(word.lower(), token)
        return found

    @cached_property
    def _known(self) -> dict[str, int]:
        """The token of each word of a vocabulary, as `plain` has it; where two are the same, one that is so itself."""
        special = (*_PAD, *_START, *_END, *_UNKNOWN)
        found: dict[str, int] = {}
        for token, word in enumerate(self.vocabulary):
            if word.lower() not in special and (plain(word) == word or plain(word) not in found):
                found[plain(word)] = token
        found.pop("", None)  # of punctuation, which is dropped from what is written
        return found

    def _filled(self, tokens: Sequence[int]) -> np.ndarray:
        return np.array([*tokens, *[self.pad] * (self.length - len(tokens))], np.int64)

    def _read(self, option: str, written: str, most: int, *, around: bool) -> list[int]:
        found = self._split(written, around)
        strange = list(dict.fromkeys(word for word, token in found if token is None))
        if strange and self.unknown is None:
            meant = did_you_mean(strange[0], self._known)
            first, *others = (repr(shortened(word)) for word in strange[:10])
            named = ", ".join([f"{first}{meant}", *others])
            raise BadOption(f"option {option!r}: the model doesn't know {named}; it knows {self.listed()}")
        units = "tokens" if self.tokenizer else "words"
        if not self._split(written, around=False):
            raise BadOption(
                f"option {option!r} has no words; it takes up to {most}{' tokens' if self.tokenizer else ''}"
            )
        if len(found) > most:
            raise BadOption(f"option {option!r} has {len(found)} {units}; the model takes at most {most}")
        return [self.unknown if token is None else token for _, token in found]  # type: ignore[misc]

    def _split(self, written: str, around: bool) -> list[tuple[str, int | None]]:
        """The words of a text, and their tokens, with those around it that a tokenizer adds if wanted."""
        if self.tokenizer:
            found = _tokenizer(self.tokenizer).encode(written, add_special_tokens=around)
            return list(zip(found.tokens, found.ids, strict=True))
        return [(word, self._known.get(word)) for word in plain(written).split()]

    def listed(self, most: int = 60) -> str:
        """The words that it knows, in a sentence."""
        own = [*self._known]
        return ", ".join(own[:most]) + (f" and {len(own) - most} more" if len(own) > most else "")


def plain(written: str) -> str:
    """A text in lower case, without punctuation."""
    return re.sub(r"[^\w\s]", "", written.lower())


def same(word: str, other: str) -> bool:
    """Whether two words are the same, but for case and punctuation; what is nothing but punctuation is that itself."""
    return (plain(word) or word) == (plain(other) or other)


def of_vocabulary(words: list[str], length: int) -> Text:
    """Text of the words of a vocabulary, each of which is a token.

    Raises:
        ValueError: saying which of them can't be one.
    """
    for number, word in enumerate(words, 1):
        if not word:
            raise ValueError(f"a vocabulary is a word a line; line {number} is empty")
        if len(word.split()) > 1:
            raise ValueError(f"a vocabulary is a word a line; line {number}, {shortened(word)!r}, has a blank in it")
        if (first := words.index(word) + 1) < number:
            raise ValueError(f"a vocabulary has each word once; {word!r} is in it twice, in lines {first} and {number}")
    return _able_to_fill(Text(words, length))


def of_tokenizer(content: str, length: int) -> Text:
    """Text as Hugging Face's ``tokenizer.json`` tells.

    Raises:
        ValueError: it is none.
    """
    try:
        vocabulary = _tokenizer(content).get_vocab(with_added_tokens=True)
        _tokenizer(content).encode("\N{SNOWMAN}")  # which fails where it has no token for what it doesn't know
    except Exception as error:  # of the library's own class
        raise ValueError(f"no tokenizer of Hugging Face's tokenizers: {error}") from error
    words = [""] * (max(vocabulary.values(), default=-1) + 1)
    for word, token in vocabulary.items():
        words[token] = word
    return _able_to_fill(Text(words, length, content))


def _able_to_fill(text: Text) -> Text:
    if text._special((*_PAD, *_END)) is None:
        raise ValueError("there is no token that fills up a shorter text; one must be called <pad>")
    return text


@lru_cache(8)
def _tokenizer(content: str) -> Tokenizer:
    from tokenizers import Tokenizer  # which most models don't need

    tokenizer = Tokenizer.from_str(json.dumps(_able_to_write(json.loads(content))))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _able_to_write(told: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer with the decoder that belongs to it, where whoever wrote it has named none."""
    model, before = told.get("model") or {}, told.get("pre_tokenizer") or {}
    if told.get("decoder") is None and model.get("type") == "WordPiece":
        prefix = model.get("continuing_subword_prefix", "##")
        return told | {"decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": True}}
    steps = before.get("pretokenizers", [before])
    if told.get("decoder") is None and any(step.get("type") == "ByteLevel" for step in steps):
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        return told | {"decoder": byte_level}
    return told
