"""Answers that come back from studies with people, scored by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import pytest

from command import gradcam
from gradcam_service.evaluate.questionnaire import KEY, Key
from gradcam_service.evaluate.questionnaire.agreement import alpha, pairs_that_agree
from gradcam_service.evaluate.questionnaire.answers import COLUMNS, collected
from gradcam_service.evaluate.studies import Asked


def score(folder: Path, *arguments: object):
    return gradcam("study", "score", folder, *arguments)


RELIABILITY = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def test_alpha_is_krippendorffs():
    """His own example, whose α of interval data he gives as .849 (Computing Krippendorff's Alpha-Reliability, 2011)."""
    rows = [line.split() for line in RELIABILITY.split("\n") if line]
    units = [[float(value) for value in unit if value != "."] for unit in zip(*rows, strict=True)]
    assert alpha(units) == pytest.approx(0.849, abs=0.0005)
    assert alpha([[1, 1], [0, 0]]) == 1.0
    assert alpha([[1, 1], [1, 1]]) is None
    assert alpha([[1], [0]]) is None
    # One pair of two agrees: D_o = (1/4)·2 = 1/2; of 0 0 0 1 in 12 ordered pairs 6 differ: D_e = 1/2.
    assert alpha([[0, 0], [0, 1]]) == pytest.approx(0.0)
    assert pairs_that_agree([[1, 1, 0], [2, 2], [5]]) == pytest.approx(2 / 4)


def asked(picture: str, method: str, label: str, *answers: str) -> Asked:
    return Asked(picture, method, label, {answer: float(answer == label) for answer in answers})


KEYED = Key(
    *("0123456789abcdef", "discrimination", "scenes", {"scenes@1": "sha256:1"}, 0, "0.1.0"),
    [
        asked("one", "gradcam", "star", "star", "fish"),
        asked("two", "gradcam", "fish", "star", "fish"),
        asked("one", "guided", "fish", "fish", "star"),
        asked("two", "guided", "star", "star", "fish"),
    ],
)


def as_json(path: Path, answers: dict[str, str], **more: str) -> Path:
    whole = {"study": KEYED.id, "filling": path.stem, "participant": "", "saved": "2026-11-29T10:00:00.000Z"}
    path.write_text(json.dumps({**whole, **more, "answers": answers}))
    return path


def as_csv(path: Path, answers: dict[str, str], participant: str = "") -> Path:
    rows = [(KEYED.id, path.stem, participant, "2026-11-29T10:00:00.000Z", *each) for each in answers.items()]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *rows])
    return path


def test_answers_are_scored_as_by_hand_and_no_file_is_dropped_silently(tmp_path: Path):
    (tmp_path / KEY).write_bytes(msgspec.json.encode(KEYED))
    files = [
        as_json(tmp_path / "anna.json", {"1": "star", "2": "fish", "3": "fish", "4": "fish"}, participant="Anna"),
        as_csv(tmp_path / "ben.csv", {"1": "star", "2": "star", "3": "fish", "4": "fish"}, 'Ben "B", the 2nd'),
        as_json(tmp_path / "cleo.json", {"1": "star", "2": "fish", "4": "star"}, participant="Anna"),
        # Cleo's, saved earlier, with other answers: the later one counts.
        as_json(tmp_path / "early.json", {"1": "fish"}, filling="cleo", saved="2026-11-29T09:00:00.000Z"),
        as_json(tmp_path / "foreign.json", {"1": "star"}, study="of another"),
        as_json(tmp_path / "strange.json", {"9": "star", "x": "star", "1": "bird"}),
        tmp_path / "broken.json",
        tmp_path / "table.csv",
        tmp_path / "nowhere.json",
    ]
    (tmp_path / "broken.json").write_text('{"study": ')
    (tmp_path / "table.csv").write_text("file,label\na.png,star\n")
    done = score(tmp_path, *files, "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["study"] == {"name": "discrimination", "id": KEYED.id, "questions": 4, "participants": 3}
    found = results["protocols"]["discrimination"]
    gradcam_, guided = (found["methods"][name] for name in ("gradcam", "guided"))
    # Question 1: three of three; 2: two of three; 3: two of two; 4: one of three.
    assert (gradcam_["right"]["mean"], gradcam_["right"]["values"]) == (pytest.approx(5 / 6), 6)
    assert (guided["right"]["mean"], guided["right"]["values"]) == (pytest.approx(3 / 5), 5)
    assert gradcam_["majority"]["mean"] == 1.0
    assert guided["majority"]["mean"] == 0.5
    # Wilson's interval of 5/6 on two pictures: (5/6 + z²/4 ± z √(5/72 + z²/16)) / (1 + z²/2), z = 1.96.
    assert gradcam_["right"]["low"] == pytest.approx(0.2408, abs=5e-4)
    assert gradcam_["right"]["high"] == pytest.approx(0.9875, abs=5e-4)
    agreement = {row[0]: row[1:] for row in found["tables"]["Agreement between raters"]["rows"]}
    # By place: 000 and 101, D_o = (4/2)/6 = 1/3, D_e = 16/30; then 00 and 110, D_o = (4/2)/5, D_e = 12/20.
    assert agreement["gradcam"] == [pytest.approx(3 / 8), pytest.approx(4 / 6), 2]
    assert agreement["guided"] == [pytest.approx(1 / 3), pytest.approx(2 / 4), 2]
    named = {(problem["kind"], Path(problem["sample"]).name) for problem in results["problem_details"]}
    assert named == {
        ("answers given twice", "early.json"),
        ("answers to another questionnaire", "foreign.json"),
        ("answer that wasn't offered", "strange.json"),
        ("questions without an answer", "strange.json"),
        ("questions without an answer", "cleo.json"),
        ("unreadable file of answers", "broken.json"),
        ("unreadable file of answers", "table.csv"),
        ("unreadable file of answers", "nowhere.json"),
        ("name of several participants", "Anna"),
    }
    for name in ("foreign.json", "nowhere.json", "Ben &#34;B&#34;"):
        assert name in (tmp_path / "report" / "report.html").read_text()


def test_a_duplicate_counts_once_in_whatever_order_the_files_come(tmp_path: Path):
    late = as_json(tmp_path / "late.json", {"1": "star"}, filling="x", saved="2026-11-29T12:00:00.000Z")
    early = as_json(tmp_path / "early.json", {"1": "fish"}, filling="x", saved="2026-11-29T11:00:00.000Z")
    for files in ([late, early], [early, late]):
        found, problems = collected(files, KEYED)
        assert [each.answers for each in found] == [{"1": "star"}]
        assert [p.sample for p in problems if p.kind == "answers given twice"] == [str(early)]


def test_of_joined_csv_files_each_participant_counts(tmp_path: Path):
    one, two = as_csv(tmp_path / "one.csv", {"1": "star"}), as_csv(tmp_path / "two.csv", {"1": "fish", "2": "fish"})
    joined = tmp_path / "joined.csv"
    joined.write_bytes(one.read_bytes() + two.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    found, _ = collected([joined], KEYED)
    assert {each.filling: each.answers for each in found} == {"one": {"1": "star"}, "two": {"1": "fish", "2": "fish"}}


def test_a_study_without_an_answer_is_an_error(tmp_path: Path):
    (tmp_path / KEY).write_bytes(msgspec.json.encode(KEYED))
    foreign = as_json(tmp_path / "foreign.json", {"1": "star"}, study="other")
    failed = score(tmp_path, foreign, "-o", tmp_path / "report")
    assert failed.returncode == 2
    assert "none of 1 files has an answer to this questionnaire" in failed.stderr
    assert not (tmp_path / "report").exists()
    failed = score(tmp_path / "..", foreign, "-o", tmp_path / "report")
    assert f"has no {KEY}" in failed.stderr


def test_trust_is_a_mean_from_minus_two_to_two(tmp_path: Path):
    scale = ("much A", "A", "equal", "B", "much B")
    flipped = [Asked("one", "gradcam", "star", dict(zip(scale, (2, 1, 0, -1, -2), strict=True)))]
    flipped += [Asked("two", "gradcam", "star", dict(zip(scale, (-2, -1, 0, 1, 2), strict=True)))]
    key = msgspec.structs.replace(KEYED, study="trust", models={"a@1": "1", "b@1": "2"}, questions=flipped)
    (tmp_path / KEY).write_bytes(msgspec.json.encode(key))
    files = [
        as_json(tmp_path / "x.json", {"1": "much A", "2": "B"}),
        as_json(tmp_path / "y.json", {"1": "equal", "2": "A"}),
    ]
    done = score(tmp_path, *files, "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    found = results["protocols"]["trust"]["methods"]["gradcam"]
    assert found["score"]["mean"] == pytest.approx((2 + 1 + 0 - 1) / 4)
    assert found["majority"]["mean"] == 1.0  # of the first picture; the second's mean is 0
    assert found["majority"]["values"] == 1
    assert any("On 1 of 2 questions" in note for note in results["protocols"]["trust"]["notes"])
