"""Answers that come back: files that participants' pages made, and what is wrong with them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.questionnaire import Key
from gradcam_service.evaluate.sample import Problem

COLUMNS = ("study", "filling", "participant", "saved", "question", "answer")
"""Of a CSV file, a line for each answer."""


class Answers(msgspec.Struct, frozen=True):
    """One participant's answers.

    Attributes:
        study: of which page.
        filling: made by lot when the page was begun; the same however often the answers are saved.
        saved: when, ISO 8601 in UTC.
        answers: by the question's number.
        participant: the name that was given, if any.
    """

    study: str
    filling: str
    saved: str
    answers: dict[str, str]
    participant: str = ""

    @property
    def name(self) -> str:
        """What to call the participant."""
        return self.participant.strip() or f"unnamed {self.filling}"


_decode = msgspec.json.Decoder(Answers).decode


def collected(files: Sequence[Path], key: Key) -> tuple[list[Answers], list[Problem]]:
    """What can be scored, the answers of each participant once, and whatever is left out or odd.

    Of several files of one filling the one that was saved last counts.

    Raises:
        BadRequest: nothing can.
    """
    problems: list[Problem] = []
    latest: dict[str, tuple[Path, Answers]] = {}
    for file, read in _own(files, key, problems):
        earlier = latest.get(read.filling)
        if earlier is None or read.saved > earlier[1].saved:
            latest[read.filling] = file, read
        if earlier is not None:
            left, kept = (file, earlier[0]) if latest[read.filling] == earlier else (earlier[0], file)
            detail = f"{read.name}'s answers are in {kept} too, which was saved last or at once, and counts"
            problems.append(Problem("answers given twice", str(left), detail))
    found = []
    for file, read in latest.values():
        known = {number: answer for number, answer in read.answers.items() if _is_known(number, answer, key)}
        problems += _odd(file, read, known, key)
        if known:
            found.append(msgspec.structs.replace(read, answers=known))
    names = Counter(each.participant.strip() for each in found if each.participant.strip())
    problems += [
        Problem("name of several participants", name, f"{count} of them; each is counted")
        for name, count in names.items()
        if count > 1
    ]
    if not found:
        said = f"; {problems[0].sample}: {problems[0].detail or problems[0].kind}" if problems else ""
        raise BadRequest(f"none of {len(files)} files has an answer to this questionnaire{said}")
    return found, problems


def _own(files: Sequence[Path], key: Key, problems: list[Problem]) -> Iterator[tuple[Path, Answers]]:
    """The answers of this study, each with its file; what is wrong with others is added to the problems."""
    for file in dict.fromkeys(files):
        try:
            read = _read(file, problems)
        except (OSError, UnicodeDecodeError, msgspec.DecodeError, csv.Error, _NoAnswers) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(Problem("unreadable file of answers", str(file), reason or ""))
            continue
        for answers in read:
            if answers.study == key.id:
                yield file, answers
            else:
                detail = f"of questionnaire {answers.study!r}, not {key.id!r}"
                problems.append(Problem("answers to another questionnaire", str(file), detail))


class _NoAnswers(Exception):
    """It is no file of answers."""


def _read(file: Path, problems: list[Problem]) -> list[Answers]:
    """A file's answers; several participants' where CSV files were joined."""
    text = file.read_bytes().decode("utf-8-sig")
    if text.lstrip().startswith("{"):
        return [_decode(text)]
    table = csv.DictReader(io.StringIO(text, newline=""))
    if missing := set(COLUMNS) - set(table.fieldnames or ()):
        raise _NoAnswers(f"neither JSON nor a CSV file of answers: no column {', '.join(sorted(missing))}")
    found: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in table:
        if any(row[column] is None for column in COLUMNS):
            raise _NoAnswers(f"line {table.line_num} is cut off")
        if row["study"] == "study":  # the head of a file that was joined to another
            continue
        whose = found.setdefault((row["study"], row["filling"], row["saved"], row["participant"]), {})
        if row["question"] in whose:
            detail = f"question {row['question']}, line {table.line_num}; the last counts"
            problems.append(Problem("question answered twice", str(file), detail))
        whose[row["question"]] = row["answer"]
    return [Answers(study, filling, saved, given, name) for (study, filling, saved, name), given in found.items()]


def _is_known(number: str, answer: str, key: Key) -> bool:
    asked = key.asked(number)
    return asked is not None and answer in asked.worth


def _odd(file: Path, read: Answers, known: Iterable[str], key: Key) -> Iterator[Problem]:
    """What isn't as it should be in the answers to this questionnaire."""
    for number, answer in read.answers.items():
        if number not in known:
            offered = key.asked(number)
            detail = f"question {number}: {answer!r}" if offered else f"there is no question {number!r}"
            yield Problem("answer that wasn't offered", str(file), detail)
    if missing := [str(n) for n in range(1, len(key.questions) + 1) if str(n) not in known]:
        yield Problem("questions without an answer", str(file), f"{len(missing)}: {', '.join(missing)}")
