"""Scoring of a study: what answers are worth by the key, how sure that is, and how far raters agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gradcam_service.evaluate.protocols import Of, Summary, averages
from gradcam_service.evaluate.questionnaire import Key
from gradcam_service.evaluate.questionnaire.agreement import alpha, pairs_that_agree
from gradcam_service.evaluate.questionnaire.answers import Answers
from gradcam_service.evaluate.report.findings import Findings, Section
from gradcam_service.evaluate.sample import Problem
from gradcam_service.evaluate.studies import Asked, Study


def scored(key: Key, study: Study, answered: Sequence[Answers], problems: Sequence[Problem]) -> Findings:
    """What the answers say.

    Args:
        key: of the questionnaire.
        study: its kind.
        answered: of each participant.
        problems: of the files that they came in.
    """
    labels = sorted({asked.label for asked in key.questions})
    given = [
        (number, asked, [each.answers[number] for each in answered if number in each.answers])
        for number, asked in ((str(place), asked) for place, asked in enumerate(key.questions, 1))
    ]
    measured = [
        Of(asked.picture, "", asked.method, _rows(asked, answers, labels.index(asked.label), study))
        for _, asked, answers in given
    ]
    tied = sum(1 for of in measured for row in of.rows if row.get("majority", True) is None)
    tables: dict[str, tuple[list[str], list[list[str | float]]]] = {
        "Agreement between raters": _agreement(given),
        "Participants": (
            ["participant", "answers", "mean"],
            [[each.name, len(each.answers), _mean(_worth(each, key))] for each in answered],
        ),
        "Questions": (
            ["question", "picture", "method", "class", "answers", "mean"],
            [_of_question(number, asked, answers) for number, asked, answers in given],
        ),
    }
    notes = ["Intervals are over pictures, with these participants: others might see it differently."]
    notes += [f"On {tied} of {len(given)} questions there is no majority; they don't count for it."] if tied else []
    described = {
        "data": key.data,
        "study": {"name": key.study, "id": key.id, "questions": len(key.questions), "participants": len(answered)},
        "models": key.models,
        "seed": key.seed,
        "version": key.version,
    }
    count = sum(len(answers) for _, _, answers in given)
    said = [
        f"{len(answered):,} participants gave {count:,} answers to {len(key.questions):,} questions about {key.data}; "
        f"questionnaire {key.id}, seed {key.seed}, gradcam-service {key.version}.",
        "; ".join(f"{name}, {digest}" for name, digest in key.models.items()),
    ]
    section = Section(key.study, study, {}, Summary(averages(measured, study.figures), notes=notes, tables=tables))
    title = f"{study.title} {' against '.join(key.models)}"
    return Findings(title, said, described, labels, [section], sorted(set(problems)), draw=lambda _: "")


def _worth(answered: Answers, key: Key) -> list[float]:
    """What each of a participant's answers is worth."""
    return [asked.worth[answer] for number, answer in answered.answers.items() if (asked := key.asked(number))]


def _rows(asked: Asked, answers: Sequence[str], label: int, study: Study) -> list[dict[str, Any]]:
    """One of each answer, and one of what the majority says: None of a tie, nothing of no answer."""
    value, majority = study.figures
    worth = [asked.worth[answer] for answer in answers]
    if not worth:
        return []
    mean = _mean(worth)
    most = None if mean == asked.neutral else mean > asked.neutral
    of_answers = [{"label": label, value: study.value(each)} for each in worth]
    return [*of_answers, {"label": label, majority: most}]


def _agreement(given: Sequence[tuple[str, Asked, list[str]]]) -> tuple[list[str], list[list[str | float]]]:
    """How far raters agree, by method, on which of a question's answers it is; the order of answers is by lot."""
    rows: list[list[str | float]] = []
    for method in dict.fromkeys(asked.method for _, asked, _ in given):
        units = [
            [float([*asked.worth].index(answer)) for answer in answers]
            for _, asked, answers in given
            if asked.method == method and len(answers) > 1
        ]
        agreed, share = alpha(units), pairs_that_agree(units)
        rows.append([method, *("–" if each is None else each for each in (agreed, share)), len(units)])
    return ["method", "Krippendorff's α", "pairs of raters that agree", "questions of several raters"], rows


def _of_question(number: str, asked: Asked, answers: Sequence[str]) -> list[str | float]:
    counts = Counter(answers)
    told = ", ".join(f"{answer}: {counts[answer]}" for answer in asked.worth if counts[answer])
    mean = _mean([asked.worth[answer] for answer in answers]) if answers else "–"
    return [number, asked.picture, asked.method, asked.label, told, mean]


def _mean(worth: Sequence[float]) -> float:
    return sum(worth) / len(worth)
