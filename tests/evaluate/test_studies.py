"""Studies with people: the page that asks, filled in by a browser, and the files that come back, scored by hand."""

from __future__ import annotations

import base64
import csv
import io
import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from browser import Visit, chromium
from command import gradcam, opened
from gradcam_service.evaluate.datasets import Source, collect
from gradcam_service.evaluate.drawing import drawn
from gradcam_service.evaluate.questionnaire import KEY, PAGE, Key, key_of
from gradcam_service.evaluate.questionnaire.agreement import alpha, pairs_that_agree
from gradcam_service.evaluate.questionnaire.answers import COLUMNS, collected
from gradcam_service.evaluate.questionnaire.lots import rounds
from gradcam_service.evaluate.studies import STUDIES, Asked
from gradcam_service.evaluate.studies.discrimination import Discrimination
from gradcam_service.evaluate.studies.trust import Trust
from gradcam_service.registry.repository import EMBEDDED
from gradcam_service.zoo.scenes import CLASSES

METHODS = ("gradcam", "guided_backprop")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model scenes twice, on eager PyTorch; the second is explained at an earlier layer."""
    repository = tmp_path_factory.mktemp("models")
    earlier = opened("scenes").model.card.layers[0].name
    for name, more in (("first", ""), ("second", f"layer: {earlier}\n")):
        shutil.copytree(EMBEDDED / "scenes", repository / name)
        described = repository / name / "1" / "model.yaml"
        described.write_text(described.read_text().replace("layer: auto\n", "") + more + "runtime: eager\n")
    return repository


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of a dozen scenes, and what is in each."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["file,label"]
    for sample in collect(Source("scenes", limit=12), CLASSES).samples:
        (folder / f"{sample.name}.png").write_bytes(sample.read())
        lines += [f"{sample.name}.png,{CLASSES[label]}" for label in sample.labels]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


@pytest.fixture(scope="module")
def study(models: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a questionnaire about class discrimination: two pictures by two methods."""
    folder = tmp_path_factory.mktemp("study") / "discrimination"
    arguments = (data, "--model", "first", "--methods", ",".join(METHODS), "--pictures", 2, "-o", folder)
    made = gradcam("study", "discrimination", *arguments, model_repository=models, cpus=1)
    assert made.returncode == 0, made.stderr
    assert "4 questions about 2 pictures by gradcam, guided_backprop" in made.stdout
    return folder


def content(folder: Path) -> dict:
    found = re.search(r'id="content">(.*?)</script>', (folder / PAGE).read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def score(folder: Path, *arguments: object):
    return gradcam("study", "score", folder, *arguments)


def test_the_page_has_no_key(study: Path):
    key, page = key_of(study), (study / PAGE).read_text()
    shown = content(study)
    assert shown.keys() == {"id", "questions"}
    assert len(shown["questions"]) == len(key.questions) == 4
    for asked, question in zip(key.questions, shown["questions"], strict=True):
        assert question.keys() == {"prompt", "pictures", "answers"}
        assert asked.label not in question["prompt"]
        assert question["answers"] == [*asked.worth]
        ((caption, uri),) = question["pictures"]
        assert caption == ""
        picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    words = re.sub(r"data:image/jpeg;base64,[\w+/=]*", "", page)
    for secret in ("worth", *METHODS, *{asked.picture for asked in key.questions}, *key.models, *key.models.values()):
        assert secret not in words


def test_a_questionnaire_is_not_overwritten_and_its_seed_decides_it(
    models: Path, data: Path, study: Path, tmp_path: Path
):
    def make(seed: int, folder: Path):
        arguments = (data, "--model", "first", "--pictures", 1, "--seed", seed, "-o", folder)
        return gradcam("study", "discrimination", *arguments, model_repository=models, cpus=1)

    refused = make(0, study)
    assert refused.returncode == 2
    assert "has a questionnaire already" in refused.stderr
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert make(seed, tmp_path / name).returncode == 0
    first, again, other = ((tmp_path / name / PAGE).read_bytes() for name in "abc")
    assert first == again != other


def test_pictures_that_can_not_be_read_are_named_and_others_take_their_places(models: Path, tmp_path: Path):
    two = next(s for s in collect(Source("scenes", limit=40), CLASSES).samples if len(s.labels) == 2)
    first, second = two.labels
    (tmp_path / "good.png").write_bytes(two.read())
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    lines = [f"{name}.png,{CLASSES[label]}" for name in ("bad", "gone", "good") for label in (first, second)]
    (tmp_path / "data.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    arguments = (tmp_path / "data.csv", "--model", "first", "--pictures", 3, "-o", tmp_path / "study")
    made = gradcam("study", "discrimination", *arguments, model_repository=models, cpus=1)
    assert made.returncode == 0, made.stderr
    assert "1 questions about 1 pictures" in made.stdout
    assert all(f"unreadable picture: {name}.png" in made.stdout for name in ("bad", "gone"))


def test_each_round_has_every_picture_once_and_every_method_alike():
    pictures, methods = [f"picture {n}" for n in range(12)], ["a", "b", "c"]
    found = list(rounds(pictures, methods, seed=0))  # type: ignore[type-var]  names are as good as samples
    assert len(found) == 3
    for one in found:
        assert sorted(picture for picture, _ in one) == sorted(pictures)
        assert Counter(method for _, method in one) == {"a": 4, "b": 4, "c": 4}
    assert Counter(pair for one in found for pair in one) == {(p, m): 1 for p in pictures for m in methods}
    assert [p for p, _ in found[0]] != pictures


def test_which_class_is_shown_and_which_answer_is_first_are_by_lot(models: Path):
    local = opened("first", model_repository=models)
    asking = Discrimination(local, 64)
    samples = collect(Source("scenes", limit=12), local.model.card.labels).samples
    suitable = [sample for sample in samples if asking.suits(sample)]
    assert all(len({thing.label for thing in sample.things}) == 2 for sample in suitable)
    assert 0 < len(suitable) < len(samples)
    sample, seen = suitable[0], set()
    maps = {label: drawn(local, sample.read(), 64, "gradcam", label) for label in sample.labels}
    for seed in range(10):
        question = asking.ask(sample, "gradcam", random.Random(seed))
        asked = question.asked
        assert asked.worth[asked.label] == 1.0
        assert sum(asked.worth.values()) == 1.0
        assert question.pictures == [("", maps[CLASSES.index(asked.label)])]
        seen.add((asked.label, next(iter(asked.worth))))
    assert len(seen) == 4


def test_a_model_is_not_compared_with_itself(models: Path, data: Path, tmp_path: Path):
    same = ("--model", "first", "--against", "first@1", "-o", tmp_path / "study")
    refused = gradcam("study", "trust", data, *same, model_repository=models, cpus=1)
    assert refused.returncode == 2
    assert "--model and --against are both first@1" in refused.stderr
    assert not (tmp_path / "study").exists()


def test_trust_is_counted_for_the_first_model_whichever_robot_it_is(models: Path):
    first, second = (opened(name, model_repository=models) for name in ("first", "second"))
    asking = Trust(first, second, 64)
    samples = collect(Source("scenes", limit=12), first.model.card.labels).samples
    sample = next(sample for sample in samples if asking.suits(sample))
    own, others = (drawn(local, sample.read(), 64, "gradcam") for local in (first, second))
    assert own != others
    orders = set()
    for seed in (0, 1):
        question = asking.ask(sample, "gradcam", random.Random(seed))
        assert [caption for caption, _ in question.pictures] == ["The picture", "Robot A", "Robot B"]
        _, (_, a), (_, b) = question.pictures
        assert {a, b} == {own, others}
        sign = 1 if a == own else -1
        assert [sign * value for value in question.asked.worth.values()] == [2, 1, 0, -1, -2]
        assert question.asked.neutral == 0
        orders.add(sign)
    assert orders == {1, -1}


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


def test_every_study_has_two_figures_and_words_for_people():
    assert {*STUDIES} == {"discrimination", "trust"}
    for study in STUDIES.values():
        assert len(study.figures) == 2
        assert study.instruction.endswith(".")


def right(key: Key, number: int) -> str:
    worth = key.questions[number].worth
    return str([*worth.values()].index(1.0) + 1)


def wrong(key: Key, number: int) -> str:
    return "1" if right(key, number) == "2" else "2"


def test_a_questionnaire_is_filled_in_by_keys_kept_and_scored(study: Path, tmp_path: Path):
    key = key_of(study)
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 400, "height": 800})
        context.set_offline(True)
        visit = Visit(context.new_page())
        page = visit.page
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto((study / PAGE).as_uri())
        page.get_by_label("Your name").fill("Ada, née X")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Question 1 of 4").wait_for()
        page.keyboard.press("Enter")  # not on the form: nothing is answered yet
        for number in range(2):
            page.keyboard.press(right(key, number))
            page.keyboard.press("Enter")
        page.get_by_role("heading", name="Question 3 of 4").wait_for()
        page.reload()
        page.get_by_role("heading", name="Question 3 of 4").wait_for()
        page.get_by_role("button", name="Back").click()
        assert page.locator("#answers input:checked").count() == 1
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Next").click()  # without an answer it stays
        page.get_by_role("heading", name="Question 3 of 4").wait_for()
        page.get_by_role("button", name="Stop here").click()
        page.get_by_text("2 of 4 questions are answered.").wait_for()
        page.get_by_role("button", name="Go on answering").click()
        page.keyboard.press(right(key, 2))
        page.keyboard.press("Enter")
        page.keyboard.press(wrong(key, 3))
        page.keyboard.press("Enter")
        page.get_by_text("4 of 4 questions are answered.").wait_for()
        ada = saved(page, "JSON", tmp_path)
        again = saved(page, "CSV", tmp_path)
        page.get_by_role("button", name="Next participant").click()
        page.get_by_role("button", name="Begin").click()
        for number in range(4):
            page.get_by_role("radio").nth(int(right(key, number)) - 1).check()
            page.get_by_role("button", name="Next").click()
        page.get_by_text("4 of 4 questions are answered.").wait_for()
        other = saved(page, "CSV", tmp_path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    done = score(study, ada, again, other, "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    found = results["protocols"]["discrimination"]
    assert results["study"]["participants"] == 2
    assert results["problems"] == {"answers given twice": 1}
    missed = key.questions[3].method
    for method, figures in found["methods"].items():
        assert figures["right"]["mean"] == (0.75 if method == missed else 1.0)
    assert found["tables"]["Participants"]["rows"][0][:2] == ["Ada, née X", 4]


def saved(page, kind: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save answers as {kind}").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path
