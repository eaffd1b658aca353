"""Files that the command line writes: names that file systems take, and one for each picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from command import gradcam
from gradcam_service.cli_files import a_file_each, foretold
from gradcam_service.zoo.scenes import scene


@pytest.mark.parametrize("file", ["x.png", "\u68d2" * 60 + ".jpeg"])
@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u9db4", "\U0001f9a9"])
def test_long_names_make_files_that_can_be_written(tmp_path: Path, letter: str, file: str):
    """As a picture's name, and then a target's, and all of them distinct."""
    names = [(letter * 200 + end, place) for place, end in enumerate("abc")]
    pictures = a_file_each(tmp_path / file, names)
    written = [each for picture in pictures for each in a_file_each(picture, names)]
    for each in written:
        each.touch()
    assert len(list(tmp_path.iterdir())) == 9
    assert all(each.name.count(letter) > 2 and each.suffix == Path(file).suffix for each in written)


def test_a_picture_named_twice_is_drawn_once(tmp_path: Path):
    photo = tmp_path / "scene.png"
    Image.fromarray(scene(900034, objects=2, size=64).image).save(photo)
    done = gradcam("explain", photo, photo, "--target", "star", "-o", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scene.png", "x.png"}
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("passes", "pace", "told"),
    [
        (3, 0.3, ""),
        (1426, 0.04, "about 57 s a picture: 1,426 forward passes"),
        (5000, 0.5, "about 42 minutes a picture: 5,000 forward passes"),
    ],
)
def test_what_takes_longer_than_a_second_is_foretold(passes: int, pace: float, told: str):
    assert foretold(passes, pace) == told
