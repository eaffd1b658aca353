"""COCO: one JSON file of images, annotations (bbox, segmentation) and categories, https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.datasets import Source
from gradcam_service.evaluate.sample import Box, Collected, Mask, Problem, Sample, Thing


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: list[float] | None = None
    segmentation: Any = None


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []


_decode = msgspec.json.Decoder(_File).decode


class Coco:
    """See `gradcam_service.evaluate.datasets.Format`. Regions of a crowd are of their class like any other."""

    described = "a COCO .json file, or a folder with one, pictures beside it or in images/"

    def reads(self, source: Source) -> bool:
        """JSON files, and folders with one."""
        if source.path.is_dir():
            return any(source.path.glob("*.json"))
        return source.path.suffix.lower() == ".json" and source.path.is_file()

    def collect(self, source: Source) -> Collected:
        """Every image that is listed.

        Raises:
            BadRequest: the file is no COCO file, or there are several.
        """
        file = _the_file(source.path)
        try:
            parsed = _decode(file.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise BadRequest(f"{file} is no COCO file of images, annotations and categories: {error}") from error
        names = {category.id: category.name for category in parsed.categories}
        found, things = Collected(), defaultdict[str, list[Thing]](list)
        images = _images(parsed.images, found)
        for annotation in parsed.annotations:
            image = images.get(annotation.image_id)
            if image is None or annotation.category_id not in names:
                said = f"image {annotation.image_id}, category {annotation.category_id}"
                found.problems.append(Problem("annotation of no image or category", "", said))
                continue
            things[image.file_name].append(_thing(annotation, image, names[annotation.category_id], found))
        for image in {image.file_name: image for image in images.values()}.values():
            path = next((at for at in _places(file.parent, image.file_name) if at.is_file()), None)
            path = path or file.parent / image.file_name
            size = image.width, image.height
            found.samples.append(Sample(image.file_name, path.read_bytes, tuple(things[image.file_name]), size=size))
        used = {thing.label for of in things.values() for thing in of}
        found.problems += [Problem("class without a picture", name) for name in sorted(set(names.values()) - used)]
        return found


def _images(listed: list[_Image], found: Collected) -> dict[int, _Image]:
    """The images by their numbers; one that is listed twice has what is annotated for both, if both are as large."""
    images: dict[int, _Image] = {}
    by_name: dict[str, _Image] = {}
    for image in listed:
        first = by_name.setdefault(image.file_name, image)
        other = images.get(image.id, image)
        if first is not image:
            same = (first.width, first.height) == (image.width, image.height)
            what = f"again as {image.id}" if same else f"as {image.id} of another size, whose annotations are left out"
            found.problems.append(Problem("picture listed twice", image.file_name, f"as {first.id}, and {what}"))
            if not same:
                continue
        if other.file_name != image.file_name:
            detail = f"{image.id}, as of {other.file_name}, whose annotations they are taken for"
            found.problems.append(Problem("number of another picture", image.file_name, detail))
            continue
        images[image.id] = first
    return images


def _the_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("*.json"))
    if len(files) > 1:
        raise BadRequest(f"{path} has several JSON files, {', '.join(file.name for file in files)}; name one")
    return files[0]


def _places(folder: Path, name: str) -> list[Path]:
    """Where a picture may lie: beside the file, or where COCO's own folders have it."""
    beside = [folder / name, folder / "images" / name]
    return [*beside, *(each / name for each in sorted(folder.parent.iterdir()) if each.is_dir())]


def _thing(annotation: _Annotation, image: _Image, label: str, found: Collected) -> Thing:
    box = mask = None
    if annotation.bbox is not None and len(annotation.bbox) == 4:
        x, y, width, height = annotation.bbox
        box = (x, y, x + width, y + height)
    try:
        if annotation.segmentation:
            runs_or_outlines = _checked(annotation.segmentation, image)
            mask = partial(_mask, runs_or_outlines, (image.height, image.width))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        problem = Problem("mask that can't be read", image.file_name, f"{label}: {type(error).__name__} {error}")
        found.problems.append(problem)
    return Thing(label, box or _around(mask), mask)


def _around(mask: partial[Mask] | None) -> Box | None:
    """The box around a mask."""
    if mask is None or not (drawn := mask()).any():
        return None
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _checked(segmentation: Any, image: _Image) -> np.ndarray | list[np.ndarray]:  # noqa: ANN401  JSON
    """The run lengths of a mask, or outlines (n, 2).

    Raises:
        ValueError: they are none, or of another size than the image.
    """
    if isinstance(segmentation, list):
        outlines = [np.asarray(outline, np.float64).reshape(-1, 2) for outline in segmentation]
        if any(len(outline) < 3 or not np.isfinite(outline).all() for outline in outlines):
            raise ValueError("an outline has fewer than three corners, or one that is no number")
        return outlines
    counts = segmentation["counts"]
    runs = np.array(_runs(counts) if isinstance(counts, str) else counts, np.int64)
    if list(segmentation["size"]) != [image.height, image.width] or (runs < 0).any():
        raise ValueError(f"it is of {segmentation['size']}, the image of {[image.height, image.width]}")
    if runs.sum() != image.height * image.width:
        raise ValueError(f"its runs are {runs.sum()} pixels long, the image {image.height * image.width}")
    return runs


def _mask(runs_or_outlines: np.ndarray | list[np.ndarray], shape: tuple[int, int]) -> Mask:
    if isinstance(runs_or_outlines, list):
        drawn = np.zeros(shape, np.bool_)
        for outline in runs_or_outlines:
            _fill(drawn, outline)
        return drawn
    values = np.arange(len(runs_or_outlines)) % 2 == 1  # the first run is of zeros
    return np.repeat(values, runs_or_outlines).reshape(shape, order="F")


def _fill(drawn: Mask, outline: np.ndarray) -> None:
    """Set the pixels whose centres lie in a polygon, row by row, by the even-odd rule; Pillow sets its edge, too."""
    height, width = drawn.shape
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, axis=0).T
    for row in range(max(0, int(y0.min())), min(height, int(np.ceil(y0.max())))):
        y = row + 0.5
        crossed = (y0 <= y) != (y1 <= y)
        slope = (x1[crossed] - x0[crossed]) / (y1[crossed] - y0[crossed])
        edges = np.sort(x0[crossed] + (y - y0[crossed]) * slope)
        first, last = np.clip(np.ceil(edges - 0.5), 0, width).astype(int).reshape(-1, 2).T
        for start, stop in zip(first, last, strict=True):
            drawn[row, start:stop] = True


def _runs(text: str) -> list[int]:
    """Run lengths of COCO's compressed text.

    Each character has 5 bits of a number, from 48 on, and a sixth that says whether more follow, lowest bits first;
    from the fourth number on, each is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is no part of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


DATASET = Coco()
