"""The scenes are what they claim to be."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gradcam_service.zoo.dataset import FIRST_TRAINING_SEED, example, letterboxed, wide_scene
from gradcam_service.zoo.scenes import CLASSES, scene
from gradcam_service.zoo.shapes import OUTLINES

SEEDS = range(60)


def digest(drawn):
    parts = [drawn.image, *(item.mask for item in drawn.objects)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def alone(name):
    """The outline of a class as a bool picture (200, 200)."""
    picture = Image.new("1", (200, 200))
    ImageDraw.Draw(picture).polygon([(100 + 98 * x, 100 + 98 * y) for x, y in OUTLINES[name]], fill=1)
    return np.asarray(picture)


def test_the_same_seed_gives_the_same_scene():
    assert [digest(scene(seed)) for seed in range(20)] == [digest(scene(seed)) for seed in range(20)]


def test_another_process_draws_the_same_scene():
    program = (
        "import hashlib; from gradcam_service.zoo.scenes import scene; s = scene(7);"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in [s.image, *(o.mask for o in s.objects)])).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == digest(scene(7))


def test_drawing_needs_no_torch():
    program = "import sys, gradcam_service.zoo.dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_different_seeds_give_different_scenes():
    assert len({digest(scene(seed)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", range(20))
def test_masks_boxes_and_image_fit_together(seed):
    drawn = scene(seed)
    assert drawn.image.shape == (128, 128, 3)
    assert drawn.image.dtype == np.uint8
    total = np.zeros((128, 128), dtype=int)
    for item in drawn.objects:
        assert item.mask.shape == (128, 128)
        assert item.mask.dtype == np.bool_
        total += item.mask
        x0, y0, x1, y1 = item.box
        tight = item.mask[y0:y1, x0:x1]
        assert tight.sum() == item.mask.sum()
        assert all(edge.any() for edge in (tight[0], tight[-1], tight[:, 0], tight[:, -1]))
    assert total.max() == 1


def test_the_picture_differs_from_its_background_inside_the_masks_alone():
    for seed in range(12):
        drawn, empty = scene(seed), scene(seed, objects=0)
        changed = (drawn.image != empty.image).any(axis=2)
        covered = np.any([item.mask for item in drawn.objects], axis=0)
        assert changed[covered].mean() > 0.95
        assert not changed[~_grown(covered, 4)].any()


def _grown(mask, by):
    """``mask`` and the pixels next to it: blended edges, and tips too thin to fill half a pixel."""
    window = 2 * by + 1
    padded = np.pad(mask, by)
    return np.any([padded[y : y + 128, x : x + 128] for y in range(window) for x in range(window)], axis=0)


def test_one_to_four_objects_of_different_classes_and_every_class_appears():
    seen = [[item.label for item in scene(seed).objects] for seed in SEEDS]
    assert {len(labels) for labels in seen} == {1, 2, 3, 4}
    assert all(len(set(labels)) == len(labels) for labels in seen)
    assert {label for labels in seen for label in labels} == set(range(12))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_number_of_objects_can_be_asked_for(count):
    assert all(len(scene(seed, objects=count).objects) == count for seed in range(20))


def test_objects_overlap_but_at_least_half_of_each_is_visible():
    hidden = 0
    for seed in SEEDS:
        # The layout of k objects begins with that of k - 1, so that each can be seen before it is covered.
        layers = [scene(seed, objects=count).objects for count in range(1, 5)]
        whole = [layers[top][top].mask.sum() for top in range(4)]
        visible = [item.mask.sum() for item in layers[-1]]
        assert [item.label for item in layers[-1][:3]] == [item.label for item in layers[2]]
        assert all(v >= 0.5 * w for v, w in zip(visible, whole, strict=True))
        hidden += any(v < w for v, w in zip(visible, whole, strict=True))
    assert hidden > len(SEEDS) / 4


def test_objects_are_between_a_tenth_and_a_half_of_the_picture():
    longest = [
        max(item.box[2] - item.box[0], item.box[3] - item.box[1])
        for seed in SEEDS
        for item in scene(seed, objects=1).objects
    ]
    assert 18 <= min(longest) < 32
    assert 48 < max(longest) <= 65


def test_a_larger_size_is_the_same_picture():
    for seed in range(10):
        small, large = scene(seed), scene(seed, size=512)
        reduced = np.asarray(Image.fromarray(large.image).reduce(4), dtype=float)
        assert np.abs(reduced - small.image).mean() < 6
        assert [item.label for item in small.objects] == [item.label for item in large.objects]
        for a, b in zip(small.objects, large.objects, strict=True):
            shrunk = np.asarray(Image.fromarray(b.mask.astype(np.uint8) * 255).reduce(4)) >= 128
            assert (shrunk & a.mask).sum() > 0.9 * (shrunk | a.mask).sum()
            assert np.allclose(np.array(a.box) * 4, b.box, atol=8)


def test_an_aspect_makes_a_strip_and_keeps_masks_in_it():
    drawn = scene(3, aspect=2.0)
    assert drawn.image.shape == (64, 128, 3)
    assert all(item.mask.shape == (64, 128) for item in drawn.objects)
    assert scene(3, aspect=0.5).image.shape == (128, 64, 3)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_no_other_class_turned_or_mirrored(name):
    picture = alone(name)
    for other in CLASSES:
        if other != name:
            rival = Image.fromarray(alone(other))
            turned = (np.asarray(rival.rotate(angle)) for angle in range(0, 360, 15))
            poses = [pose for t in turned for pose in (t, t[:, ::-1])]
            assert max((picture & pose).sum() / (picture | pose).sum() for pose in poses) < 0.85, other


def test_there_are_twelve_classes_and_star_is_one():
    assert len(CLASSES) == len(set(CLASSES)) == 12
    assert "star" in CLASSES


def test_letterboxing_centres_and_fills():
    square = letterboxed(np.ones((2, 6, 3), dtype=np.uint8), 128)
    assert square.shape == (6, 6, 3)
    assert (square[2:4] == 1).all()
    assert (square[[0, 1, 4, 5]] == 128).all()


def test_a_wide_scene_is_padded_with_its_mask():
    drawn = wide_scene(5)
    (only,) = drawn.objects
    x0, y0, x1, y1 = only.box
    assert drawn.image.shape == (128, 128, 3)
    assert (drawn.image[[0, -1]] == 128).all()
    assert only.mask[y0:y1, x0:x1].sum() == only.mask.sum() > 0
    assert only.mask[y0].any()


def test_an_example_names_what_its_scene_holds():
    examples = [example(FIRST_TRAINING_SEED + i) for i in range(60)]
    for image, labels, regions in examples:
        assert image.shape == (128, 128, 3)
        assert regions.shape == (128, 128)
        assert np.flatnonzero(labels).tolist() == [index - 1 for index in np.unique(regions) if index]
    assert {int(labels.sum()) for _, labels, _ in examples} == {0, 1, 2, 3, 4}
