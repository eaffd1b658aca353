"""Studies with people: what is asked, and the page that asks it, filled in by a browser."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from browser import Visit, chromium
from command import gradcam, opened
from gradcam_service.evaluate.datasets import Source, collect
from gradcam_service.evaluate.drawing import drawn
from gradcam_service.evaluate.questionnaire import PAGE, Key, key_of
from gradcam_service.evaluate.questionnaire.lots import rounds
from gradcam_service.evaluate.studies import STUDIES
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


def test_every_study_has_two_figures_and_words_for_people():
    assert {*STUDIES} == {"discrimination", "trust"}
    for study in STUDIES.values():
        assert len(study.figures) == 2
        assert study.instruction.endswith(".")


PLUGIN = """
from gradcam_service.evaluate.drawing import drawn
from gradcam_service.evaluate.protocols import Figure
from gradcam_service.evaluate.studies import Asked, Question, Study


class Beauty:
    def __init__(self, local, side):
        self.local, self.side = local, side

    def suits(self, sample):
        return True

    def ask(self, sample, method, lot):
        picture = drawn(self.local, sample.read(), self.side, method)
        return Question(Asked(sample.name, method, "", {"yes": 1.0, "no": 0.0}), "Is it?", [("", picture)])


STUDY = Study(
    title="Beauty",
    offer="Is it beautiful?",
    about="pictures of any class",
    asking=Beauty,
    instruction="Look.",
    summary="Which maps please.",
    figures={"beautiful": Figure("beautiful"), "majority": Figure("to most")},
    value=bool,
)
"""


def test_a_plugins_study_is_offered_made_and_scored(models: Path, data: Path, tmp_path: Path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "beauty.py").write_text(PLUGIN)
    given = {"model_repository": models, "cpus": 1, "plugins": tmp_path / "plugins"}
    assert "beauty          Is it beautiful?" in gradcam("study", "--help", **given).stdout
    offered = gradcam("study", "beauty", "--help", **given).stdout
    assert "pictures of any class are asked about" in offered
    assert "--against" not in offered
    made = gradcam(*("study", "beauty", data, "--model", "first", "--pictures", 1, "-o", tmp_path / "study"), **given)
    assert made.returncode == 0, made.stderr
    answers = {"study": key_of(tmp_path / "study").id, "filling": "a", "participant": "", "saved": "2026-11-29"}
    (tmp_path / "a.json").write_text(json.dumps({**answers, "answers": {"1": "yes"}}))
    to_score = ("study", "score", tmp_path / "study", tmp_path / "a.json", "-o", tmp_path / "report")
    scored = gradcam(*to_score, **given)
    assert scored.returncode == 0, scored.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["protocols"]["beauty"]["methods"]["gradcam"]["beautiful"]["mean"] == 1.0
    without = gradcam(*to_score)
    assert without.returncode == 2
    assert "there is no 'beauty'" in without.stderr


def test_of_scenes_no_more_are_drawn_than_may_be_asked_about(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int | None] = []
    monkeypatch.setattr(
        "gradcam_service.evaluate.datasets.collect",
        lambda source, labels: asked.append(source.limit) or collect(source, labels),
    )
    arguments = ("scenes", "--model", "first", "--pictures", 1, "-o", tmp_path / "study")
    made = gradcam("study", "discrimination", *arguments, model_repository=models, cpus=1)
    assert made.returncode == 0, made.stderr
    assert "1 questions about 1 pictures" in made.stdout
    assert asked == [20]


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
    done = gradcam("study", "score", study, ada, again, other, "-o", tmp_path / "report")
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
