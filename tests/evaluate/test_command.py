"""`gradcam evaluate` as it is called: what it writes, what it goes on with, and what it says of bad data."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import Visit, chromium
from command import gradcam, opened
from gradcam_service.core.options import ExplainOptions
from gradcam_service.explain.arrays import resized
from gradcam_service.zoo.scenes import CLASSES, scene
from live import GRADCAM, PATIENCE

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
QUICK = ("--methods", "gradcam,layercam", "--protocols", "localisation,pointing,energy,failures")


def evaluate(models: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return gradcam("evaluate", *arguments, "--model", "still", model_repository=models, cpus=1)


def written(report: Path) -> tuple[bytes, bytes]:
    return (report / "results.json").read_bytes(), (report / "results.csv").read_bytes()


def test_the_report_of_scenes_is_what_the_scenes_are(models: Path, tmp_path: Path):
    done = evaluate(models, "scenes", *QUICK, "--limit", 24, "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert "24 pictures by gradcam, layercam" in done.stdout
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["pictures"] == {"chosen": 24, "usable": 24}
    pointing = results["protocols"]["pointing"]["methods"]["gradcam"]
    objects = [item for seed in range(24) for item in scene(seed).objects]
    assert pointing["hit"]["values"] == len(objects)
    assert pointing["hit"]["mean"] >= 0.95
    assert pointing["chance"]["mean"] == pytest.approx(np.mean([item.mask.mean() for item in objects]))
    assert results["protocols"]["energy"]["methods"]["gradcam"]["inside"]["mean"] > 0.6
    with (tmp_path / "report" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["figure"] == "hit" and not row["class"]]
    assert {row["method"]: float(row["mean"]) for row in rows}["gradcam"] == pointing["hit"]["mean"]
    with chromium() as browser:
        visit = Visit(browser.new_page(viewport={"width": 400, "height": 800}))
        visit.page.context.set_offline(True)
        visit.page.goto((tmp_path / "report" / "report.html").as_uri())
        assert visit.complaints == []
        assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
        assert visit.page.locator("svg[role=img]").count() > 0
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
        sizes = visit.page.eval_on_selector_all("figure img", "them => them.map(each => each.naturalWidth)")
        assert sizes
        assert min(sizes) > 0


def test_killed_in_the_middle_and_resumed_it_gives_the_same(models: Path, tmp_path: Path):
    arguments = ("scenes", "--methods", "gradcam,occlusion", "--protocols", "pointing,energy", "--limit", 6)
    whole = evaluate(models, *arguments, "-o", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    cut = tmp_path / "cut"
    environment = os.environ | {"GRADCAM_MODEL_REPOSITORY": str(models), "GRADCAM_CPUS": "1", "GRADCAM_DEVICE": "cpu"}
    command = [GRADCAM, "evaluate", *map(str, arguments), "--model", "still", "-o", str(cut)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    kept, deadline = cut / "measured.jsonl", time.monotonic() + PATIENCE
    while not (kept.exists() and b"occlusion" in kept.read_bytes()):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = kept.read_bytes()
    assert not (cut / "results.json").exists()
    assert before.count(b"\n") < (tmp_path / "whole" / "measured.jsonl").read_bytes().count(b"\n")
    kept.write_bytes(before + b'{"key": "cut o')  # as by a crash while a line is written
    refused = evaluate(models, *arguments, "-o", cut)
    assert refused.returncode == 2
    assert "--resume goes on with them" in refused.stderr
    resumed = evaluate(models, *arguments, "-o", cut, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert kept.read_bytes().startswith(before)
    assert written(cut) == written(tmp_path / "whole")


def test_nothing_is_measured_twice_and_other_protocols_are_added(models: Path, tmp_path: Path):
    arguments = ("scenes", "--limit", 8, "-o", tmp_path)
    evaluate(models, *arguments, "--protocols", "pointing")
    first = (tmp_path / "measured.jsonl").read_bytes()
    again = evaluate(models, *arguments, "--protocols", "pointing", "--resume")
    assert "pointing; all of it is measured already" in again.stdout
    assert (tmp_path / "measured.jsonl").read_bytes() == first
    evaluate(models, *arguments, "--protocols", "pointing,energy", "--set", "pointing.tolerance=3", "--resume")
    added = (tmp_path / "measured.jsonl").read_bytes().removeprefix(first).splitlines()
    assert [json.loads(line)["protocol"] for line in added] == ["pointing", "energy"] * 8


def test_what_is_left_is_told_and_goes_on_where_it_was_computed(models: Path, tmp_path: Path):
    """Another runtime's last digits are others: its entries are never taken for those of this one."""
    arguments = ("scenes", "--protocols", "energy", "-o", tmp_path)
    first = evaluate(models, *arguments, "--limit", 8)
    assert "; 8 forward passes on eager," in first.stdout
    more = gradcam("evaluate", *arguments, "--limit", 9, "--model", "scenes", "--resume", cpus=1)
    assert "; 1 forward passes of 9 are left on eager," in more.stdout  # the same model, which may go by any runtime
    described = tmp_path / "models" / "still" / "1" / "model.yaml"
    shutil.copytree(models, tmp_path / "models")
    described.write_text(described.read_text().replace("runtime: eager", "runtime: onnxruntime"))
    named = evaluate(tmp_path / "models", *arguments, "--limit", 9, "--resume")
    assert "; 9 forward passes of 9 are left on onnxruntime," in named.stdout
    kept = [json.loads(line) for line in (tmp_path / "measured.jsonl").read_text().splitlines()]
    assert [(line["runtime"], line["precision"]) for line in kept] == (
        [("eager", "float32")] * 18 + [("onnxruntime", "float32")] * 18
    )


def test_the_seed_decides_which_pictures_are_drawn(models: Path, tmp_path: Path):
    with (tmp_path / "data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label"))
        for seed in range(12):
            drawn = scene(seed)
            Image.fromarray(drawn.image).save(tmp_path / f"{seed}.png")
            table.writerow((f"{seed}.png", CLASSES[drawn.objects[0].label]))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = evaluate(models, tmp_path / "data.csv", "--limit", 4, "--seed", seed, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
    first, again, other = (
        {json.loads(line)["sample"] for line in (tmp_path / name / "measured.jsonl").read_text().splitlines()}
        for name in "abc"
    )
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert first == again != other
    assert len(other) == 4


def test_imagenets_formats_in_miniature_give_the_papers_figures(models: Path, tmp_path: Path):
    """Class folders called by numbers, boxes in a folder of XML files, a synset mapping, by the docs' very command."""
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"n{k:08} {name}\n" for k, name in enumerate(CLASSES)))
    (tmp_path / "boxes").mkdir()
    for seed in range(6):
        item = (drawn := scene(seed, objects=1)).objects[0]
        folder = tmp_path / "val" / f"n{item.label:08}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.image).save(folder / f"val_{seed}.png")
        x0, y0, x1, y1 = item.box
        (tmp_path / "boxes" / f"val_{seed}.xml").write_text(
            "<annotation><size><width>128</width><height>128</height></size>"
            f"<object><name>n{item.label:08}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax>"
            f"<ymax>{y1}</ymax></bndbox></object></annotation>"
        )
    (tmp_path / "val" / "n00000099").mkdir()
    (tmp_path / "val" / f"n{scene(0, objects=1).objects[0].label:08}" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    here = {
        "ILSVRC/Data/CLS-LOC/val": tmp_path / "val",
        "ILSVRC/Annotations/CLS-LOC/val": tmp_path / "boxes",
        "LOC_synset_mapping.txt": tmp_path / "LOC_synset_mapping.txt",
        "vgg16": "still",
        "report/": tmp_path / "report",
    }
    papers = re.search(r"gradcam evaluate (ILSVRC.*?)\n\n", DOCS.read_text(), re.DOTALL)
    assert papers
    command = [here.get(word, word) for word in shlex.split(papers[1].replace("\\\n", " "))]
    done = gradcam("evaluate", *command, model_repository=models, cpus=1)
    assert done.returncode == 0, done.stderr
    assert re.search("left out or changed: .*1 × class without a picture.*1 × unreadable picture", done.stdout)
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["pictures"] == {"chosen": 7, "usable": 6}
    figures = {name: protocol["methods"]["gradcam"] for name, protocol in results["protocols"].items()}
    assert figures["localisation"]["top1"]["values"] == 6
    assert figures["localisation"]["known"]["mean"] <= figures["localisation"]["top1"]["mean"]
    assert figures["pointing"]["hit"]["mean"] == 1.0
    assert results["protocols"]["pointing"]["options"] == {"tolerance": 15}
    strictly = gradcam(
        "evaluate", *command, "--set", "pointing.tolerance=0", "--resume", model_repository=models, cpus=1
    )
    assert strictly.returncode == 0, strictly.stderr
    exact = json.loads((tmp_path / "report" / "results.json").read_text())["protocols"]["pointing"]
    assert exact["options"] == {"tolerance": 0}
    assert exact["methods"]["gradcam"]["chance"]["mean"] < figures["pointing"]["chance"]["mean"] / 2
    assert "broken.png" in (tmp_path / "report" / "report.html").read_text()


def test_what_can_not_be_done_is_one_line_that_says_what_would_work(models: Path, tmp_path: Path):
    (tmp_path / "data.csv").write_text("file,label\nnowhere.png,star\n")
    for said, *arguments in (
        ("needs boxes, which data set", tmp_path / "data.csv", "--protocols", "localisation"),
        ("none of 1 pictures can be used; nowhere.png: No such file", tmp_path / "data.csv"),
        ("did you mean 'pointing'", "scenes", "--protocols", "pointin"),
        ("tolerance must be at least 0", "scenes", "--set", "pointing.tolerance=-1"),
        ("it takes PROTOCOL.OPTION=VALUE", "scenes", "--set", "tolerance=1"),
        ("can't be explained by 'gradcm'", "scenes", "--methods", "gradcm"),
    ):
        failed = evaluate(models, *arguments, "--limit", 1, "-o", tmp_path / "report")
        assert failed.returncode == 2, failed.stdout
        assert said in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_the_data_set_of_a_package_is_questions_with_the_shape_for_a_mask(tmp_path: Path):
    pytest.importorskip("easy_vqa")
    arguments = ("easy-vqa", "--model", "easy-vqa", "--limit", 40, "-o", tmp_path)
    done = gradcam("evaluate", *arguments, "--protocols", "pointing,failures", cpus=1)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())["protocols"]
    assert found["failures"]["methods"]["hirescam"]["wrong"]["mean"] <= 0.1
    assert found["pointing"]["methods"]["hirescam"]["hit"]["mean"] >= 0.8


@pytest.mark.parametrize("model", ["policy", "scenes-captions"])
def test_models_of_other_tasks_are_refused_and_what_works_is_said(tmp_path: Path, model: str):
    failed = gradcam("evaluate", "scenes", "--model", model, "-o", tmp_path / "report", cpus=1)
    assert failed.returncode == 2
    assert "gradcam evaluate takes those of classification" in failed.stderr
    assert "POST /explain with quality=true measures single maps" in failed.stderr
    assert failed.stderr.count("\n") == 1


PLUGIN = """
from gradcam_service.evaluate.datasets import Source
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.evaluate.sample import Collected, Problem, Sample, Thing
from gradcam_service.zoo.scenes import scene
import io
from PIL import Image


class Single:
    described = "the word single"

    def reads(self, source):
        return source.data == "single"

    def collect(self, source):
        file = io.BytesIO()
        Image.fromarray(scene(0).image).save(file, "PNG")
        return Collected([Sample("only", file.getvalue, (Thing("star"),))], [Problem("made up", "only")])


class Peak(Protocol):
    title = "Peak"
    summary = "How strong the map is at most."
    paper = "https://example.org"
    figures = {"peak": Figure("peak")}

    def measure(self, case, **options):
        return [{"label": label, "peak": case.map(label).max()} for label in case.sample.labels]


DATASET = Single()
PROTOCOL = Peak()
"""


def test_a_plugin_brings_a_format_and_a_protocol(models: Path, tmp_path: Path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "single.py").write_text(PLUGIN)
    arguments = ("evaluate", "single", "--model", "still", "--protocols", "single", "-o", tmp_path / "report")
    done = gradcam(*arguments, model_repository=models, cpus=1, plugins=tmp_path / "plugins")
    assert done.returncode == 0, done.stderr
    assert "1 × made up" in done.stdout
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["protocols"]["single"]["methods"]["gradcam"]["peak"]["classes"].keys() == {"star"}


def test_data_sets_are_read_without_torch():
    code = "import sys, gradcam_service.cli, gradcam_service.evaluate.datasets as d; [*d.DATASETS.values()]; "
    code += "import gradcam_service.evaluate.protocols; "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_bias_by_a_csv_files_groups_is_found_where_it_is_and_not_made_up(models: Path, tmp_path: Path):
    """In one group all objects lie to the left; two groups of the same pictures have the same maps."""
    sides: dict[str, list[tuple[str, str]]] = {"left": [], "right": []}
    for seed in range(80):
        item = (drawn := scene(seed, objects=1)).objects[0]
        centre = (item.box[0] + item.box[2]) / 2
        side = "left" if centre < 48 else "right" if centre > 80 else ""
        if side and len(sides[side]) < 10:
            for copy in ("a", "b"):
                Image.fromarray(drawn.image).save(tmp_path / f"{copy}{seed}.png")
            sides[side].append((f"{seed}.png", CLASSES[item.label]))
    assert [len(of) for of in sides.values()] == [10, 10]
    planted = [(f"a{name}", label, side) for side, rows in sides.items() for name, label in rows]
    fair = [(f"{copy}{name}", label, copy) for copy in ("a", "b") for name, label in sides["left"] + sides["right"]]
    said = {}
    for name, rows in (("planted", planted), ("fair", fair)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file", "label", "group"), *rows])
        done = evaluate(models, tmp_path / f"{name}.csv", "--protocols", "bias", "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        said[name] = json.loads((tmp_path / name / "results.json").read_text())["protocols"]["bias"]["notes"]
    assert any("group 'left' more of the map lies in row 2, column 1" in note for note in said["planted"])
    assert any("group 'right' more of the map lies in row 2, column 3" in note for note in said["planted"])
    assert said["fair"] == []


def test_answers_to_questions_are_measured_as_single_ones_are(tmp_path: Path):
    """Deletion and insertion of an answer's map, as POST /explain gives them, and the share of that map in the box."""
    pixels = np.full((64, 64, 3), 230, np.uint8)
    pixels[12:30, 36:52] = (200, 20, 20)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    asked = {"what color is the rectangle?": "red", "is there a red shape?": "yes", "is it a unicorn?": "no"}
    lines = [f"red.png,{answer},36,12,52,30,{question}" for question, answer in asked.items()]
    (tmp_path / "data.csv").write_text("\n".join(["file,label,x0,y0,x1,y1,question", *lines]) + "\n")
    arguments = (tmp_path / "data.csv", "--model", "easy-vqa", "--methods", "gradcam", "-o", tmp_path / "report")
    done = gradcam("evaluate", *arguments, "--protocols", "energy,deletion,pointing", cpus=1)
    assert done.returncode == 0, done.stderr
    assert "left out or changed: 1 × unreadable question" in done.stdout
    kept = [json.loads(line) for line in (tmp_path / "report" / "measured.jsonl").read_text().splitlines()]
    found = {(line["protocol"], line["sample"]): line["rows"][0] for line in kept if line["rows"]}
    model, pictures = opened("easy-vqa"), (tmp_path / "red.png").read_bytes()
    for question, answer in [*asked.items()][:2]:
        wanted = {"question": question, "target": [answer], "method": "gradcam", "output": ["map"], "quality": True}
        (single,) = model.explain(pictures, ExplainOptions.model_validate(wanted)).explanations
        assert single.quality is not None
        name = f"red.png: {question}"
        areas = found["deletion", name]
        assert (areas["deletion"], areas["insertion"]) == pytest.approx(
            (single.quality.deletion, single.quality.insertion), abs=1e-4
        )
        large = resized(np.asarray(single.map, np.float32)[None], (64, 64))[0]
        assert found["energy", name]["inside"] == pytest.approx(large[12:30, 36:52].sum() / large.sum(), abs=1e-4)
    first, second, _ = (found.get(("deletion", f"red.png: {question}")) for question in asked)
    assert first != second
    refused = gradcam("evaluate", *arguments[:-1], tmp_path / "other", "--protocols", "sanity", cpus=1)
    assert refused.returncode == 2
    assert "sanity is for models that take pictures alone" in refused.stderr
