"""Formats of data sets, each made here in miniature, and what is wrong with some."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.datasets import Source, classes_of, collect
from gradcam_service.evaluate.sample import Collected, Problem, Sample, Thing, at_input, fitting
from gradcam_service.images.geometry import prepare

LABELS = ["circle", "star", "Egyptian cat"]


def picture(path: Path, size: tuple[int, int] = (20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def voc(path: Path, things: dict[str, tuple[int, int, int, int]], size: tuple[int, int] | None = (20, 10)) -> None:
    """An annotation as VOC and ImageNet have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, (a, b, c, d) in things.items()
    )
    sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    path.write_text(f"<annotation>{sized}{objects}</annotation>")


def kinds(of: Collected) -> Counter[str]:
    return Counter(problem.kind for problem in of.problems)


def things(sample: Sample) -> list[tuple[int, object]]:
    return [(thing.index, thing.box) for thing in sample.things]


def test_class_folders_with_boxes_beside_and_elsewhere(tmp_path: Path):
    data = tmp_path / "val"
    picture(data / "n01" / "a.png")
    voc(data / "n01" / "a.xml", {"n01": (1, 1, 20, 10)})
    picture(data / "n02" / "b.JPEG")
    voc(tmp_path / "boxes" / "b.xml", {"n02": (3, 2, 4, 5), "n03": (1, 1, 2, 2)})
    picture(data / "n02" / "c.png")
    (tmp_path / "classes.txt").write_text("n01 circle, ring\nn02 star\nn03 Egyptian cat\n")
    classes = classes_of(tmp_path / "classes.txt", 3)
    found = collect(Source(str(data), tmp_path / "boxes"), LABELS, classes)
    assert {sample.name: things(sample) for sample in found.samples} == {
        "n01/a.png": [(0, (0.0, 0.0, 20.0, 10.0))],  # all of it: VOC counts from 1 and includes the last pixel
        "n02/b.JPEG": [(1, (2.0, 1.0, 4.0, 5.0)), (2, (0.0, 0.0, 2.0, 2.0))],
        "n02/c.png": [(1, None)],
    }
    assert found.problems == []


def test_pictures_in_no_folder_are_of_what_their_annotation_names(tmp_path: Path):
    picture(tmp_path / "a.png")
    voc(tmp_path / "Annotations" / "a.xml", {"star": (1, 1, 5, 5)})
    picture(tmp_path / "b.png")
    found = collect(Source(str(tmp_path)), LABELS)
    assert [things(sample) for sample in found.samples] == [[(1, (0.0, 0.0, 5.0, 5.0))]]
    assert found.problems == [Problem("picture without a label", "b.png")]


def test_class_folders_tell_of_all_that_is_left_out(tmp_path: Path):
    picture(tmp_path / "star" / "a.png")
    voc(tmp_path / "star" / "a.xml", {"star": (1, 1, 5, 5)})
    picture(tmp_path / "star" / "b.png")
    (tmp_path / "star" / "b.xml").write_text("<annotation><object>")
    picture(tmp_path / "dragon" / "c.png")
    (tmp_path / "circle").mkdir()
    (tmp_path / "star" / "notes.txt").write_text("?")
    found = collect(Source(str(tmp_path)), LABELS)
    assert [sample.name for sample in found.samples] == ["star/a.png", "star/b.png"]
    assert kinds(found) == {
        "annotation that can't be read": 1,
        "label that the model doesn't know": 1,
        "class without a picture": 1,
        "file that is no picture": 1,
    }


def test_coco_boxes_outlines_and_run_lengths(tmp_path: Path):
    picture(tmp_path / "images" / "a.png", (6, 4))
    # pycocotools.mask.encode of a Fortran-ordered 4 × 6 mask of ones in rows 1–2 of columns 2–4: runs 9 2 2 2 2 2 5
    coco = {
        "images": [{"id": 7, "file_name": "a.png", "width": 6, "height": 4}],
        "categories": [{"id": 1, "name": "star"}, {"id": 2, "name": "circle"}, {"id": 3, "name": "egyptian cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [1, 1, 3, 2], "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]},
            {"image_id": 7, "category_id": 2, "segmentation": {"size": [4, 6], "counts": [9, 2, 2, 2, 2, 2, 5]}},
            {"image_id": 7, "category_id": 2, "segmentation": {"size": [4, 6], "counts": [9, 2]}},
            {"image_id": 8, "category_id": 2, "bbox": [0, 0, 1, 1]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    found = collect(Source(str(tmp_path)), LABELS)
    (sample,) = found.samples
    assert things(sample) == [(1, (1.0, 1.0, 4.0, 3.0)), (0, (2.0, 1.0, 5.0, 3.0)), (0, None)]
    star, circle = sample.where(1, (6, 4)), sample.where(0, (6, 4))
    expected = np.zeros((2, 4, 6), bool)
    expected[0, 1:3, 1:4] = expected[1, 1:3, 2:5] = True
    np.testing.assert_array_equal(star, expected[0])
    np.testing.assert_array_equal(circle, expected[1])
    assert kinds(found) == {
        "mask that can't be read": 1,
        "annotation of no image or category": 1,
        "class without a picture": 1,
    }


def test_coco_pictures_that_are_listed_twice_are_one(tmp_path: Path):
    images = [(7, "a.png", 20), (8, "a.png", 20), (9, "a.png", 30), (7, "b.png", 20), (10, "c.png", 20)]
    coco = {
        "images": [{"id": i, "file_name": name, "width": width, "height": 10} for i, name, width in images],
        "categories": [{"id": 1, "name": "star"}, {"id": 2, "name": "circle"}],
        "annotations": [
            {"image_id": i, "category_id": label, "bbox": [i, 0, 1, 1]}
            for i, label in ((7, 1), (8, 2), (9, 1), (10, 1))
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    found = collect(Source(str(tmp_path)), LABELS)
    assert {sample.name: things(sample) for sample in found.samples} == {
        "a.png": [(1, (7.0, 0.0, 8.0, 1.0)), (0, (8.0, 0.0, 9.0, 1.0))],
        "c.png": [(1, (10.0, 0.0, 11.0, 1.0))],
    }
    assert kinds(found) == {
        "picture listed twice": 2,
        "number of another picture": 1,
        "annotation of no image or category": 1,
    }


def test_coco_compressed_run_lengths():
    from gradcam_service.evaluate.datasets.coco import _runs

    # By hand: 0–2 are themselves, from the fourth on differences to the one before the last; 5 bits a character, the
    # sixth (32) says that more follow, the fifth of the last is the sign, from "0" on.
    runs = [9, 2, 100, 1]
    text = chr(48 + 9) + chr(48 + 2) + chr(48 + (100 & 31 | 32)) + chr(48 + (100 >> 5)) + chr(48 + (-1 & 31))
    assert _runs(text) == runs


def table(path: Path, *lines: tuple[object, ...]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return str(path)


def test_csv_of_several_objects_and_groups(tmp_path: Path):
    data = table(
        tmp_path / "data.csv",
        ("file", "label", "x0", "y0", "x1", "y1", "group"),
        ("a.png", "star", 1, 2, 3, 4, "day"),
        ("a.png", 0, "", "", "", "", "day"),
        ("b.png", "egyptian_cat", "", "", "", "", "night"),
        ("b.png", "star", "", "", "", "", "day"),
        ("c.png", "dragon", 1, 2, 3, 4, "night"),
        ("", "star", 1, 2, 3, 4, "night"),
        ("a.png", "star", 1, 2, "x", 4, "day"),
    )
    found = collect(Source(data), LABELS)
    assert {s.name: (things(s), s.group) for s in found.samples} == {
        "a.png": ([(1, (1.0, 2.0, 3.0, 4.0)), (0, None), (1, None)], "day"),
        "b.png": ([(2, None)], "night"),
    }
    assert kinds(found) == {
        "picture of two groups": 1,
        "label that the model doesn't know": 1,
        "line without a file or a label": 1,
        "box that can't be read": 1,
    }


def test_a_data_set_with_nothing_in_it_says_what_would_work(tmp_path: Path):
    with pytest.raises(BadRequest, match=r"there is no such file or folder; there are: .*COCO.*class folders.*scenes"):
        collect(Source(str(tmp_path / "nothing")), LABELS)
    picture(tmp_path / "dragon" / "a.png")
    with pytest.raises(BadRequest, match=r"nothing that can be evaluated .*no class is labelled 'dragon'"):
        collect(Source(str(tmp_path)), LABELS)
    with pytest.raises(BadRequest, match=r"columns file, class; needed are file and label"):
        collect(Source(table(tmp_path / "a.csv", ("file", "class"), ("a.png", "star"))), LABELS)
    (tmp_path / "classes.txt").write_text("n01\nn02\n")
    with pytest.raises(BadRequest, match="2 lines; the model has 3 classes"):
        classes_of(tmp_path / "classes.txt", 3)


def test_boxes_are_clipped_to_their_picture_and_those_outside_are_told_of():
    def sample(*boxes: tuple[float, float, float, float], size: tuple[int, int] | None = None) -> Sample:
        return Sample("a", bytes, tuple(Thing("star", box) for box in boxes), size=size)

    fitted, problems = fitting(sample((-1, 0, 20, 10), (5, 5, 30, 9), (30, 5, 40, 9), (5, 5, 5, 9)), (20, 10))
    assert [thing.box for thing in fitted.things] == [(0, 0, 20, 10), (5, 5, 20, 9), None, None]
    assert [problem.detail.rpartition(": ")[2] for problem in problems] == ["clipped", "left out", "left out"]
    fitted, problems = fitting(sample((1, 1, 2, 2), size=(10, 20)), (20, 10))
    assert [thing.box for thing in fitted.things] == [None]
    assert problems == [Problem("boxes of another size", "a", "made for 10×20 pixels, the picture has 20×10")]


def test_pixels_of_a_box_are_those_whose_centre_is_in_it():
    sample = Sample("a", bytes, (Thing("star", (0.5, 0.6, 2.5, 2.4), index=1),))
    expected = [[False, False, False, False], [True, True, False, False], [False, False, False, False]]
    np.testing.assert_array_equal(sample.where(1, (4, 3)), expected)
    assert sample.where(0, (4, 3)) is None


def test_a_mask_is_taken_to_what_the_model_sees():
    """A picture of 40 × 20 padded to a square of 8: rows 2–5 are its own, a pixel is 5 of the original's."""
    prepared = prepare(Image.new("RGB", (40, 20)), pad=8)
    mask = np.zeros((20, 40), bool)
    mask[10:, 20:] = True
    expected = np.zeros((8, 8), bool)
    expected[4:6, 4:] = True
    np.testing.assert_array_equal(at_input(mask, prepared), expected)
