"""ImageNet's folders: one for each class, with boxes as VOC's XML beside the pictures or elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from gradcam_service.evaluate.datasets import PICTURES, Source
from gradcam_service.evaluate.sample import Box, Collected, Problem, Sample, Thing


class Folders:
    """See `gradcam_service.evaluate.datasets.Format`.

    A picture is of the class that its folder is called after, and of those that its XML file names; the file is the one
    of the same name without suffix. Pictures that lie in no folder are of what their XML names.
    """

    described = "a folder of class folders (ImageNet), VOC XML beside the pictures or in --boxes"

    def reads(self, source: Source) -> bool:
        """Folders without a COCO file."""
        return source.path.is_dir() and not any(source.path.glob("*.json"))

    def collect(self, source: Source) -> Collected:
        """Every picture below the folder."""
        root, found = source.path, Collected()
        annotations = _annotations(root, source.boxes)
        filled = set()
        for path in _pictures(root, found):
            name, parts = path.relative_to(root).as_posix(), path.relative_to(root).parts
            label = parts[0] if len(parts) > 1 else ""
            filled.add(label)
            things, size = _things(annotations.get(path.stem, []), path, found, name)
            if label and label not in {thing.label for thing in things}:
                things.append(Thing(label))
            found.samples.append(Sample(name, path.read_bytes, tuple(things), size=size))
        folders = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
        only_xml = {path.relative_to(root).parts[0] for path in root.rglob("*.xml")}
        for empty in sorted(folders - filled - only_xml):
            found.problems.append(Problem("class without a picture", empty))
        return found


def _pictures(root: Path, found: Collected) -> Iterator[Path]:
    """The pictures below a folder, in order; other files are told of, but for annotations."""
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix.lower() in PICTURES:
            yield path
        elif path.suffix.lower() != ".xml":
            found.problems.append(Problem("file that is no picture", path.relative_to(root).as_posix()))


def _annotations(root: Path, elsewhere: Path | None) -> dict[str, list[Path]]:
    """XML files by their name without suffix."""
    files: dict[str, list[Path]] = defaultdict(list)
    for folder in (root, elsewhere):
        for path in sorted(folder.rglob("*.xml")) if folder else ():
            if path not in files[path.stem]:
                files[path.stem].append(path)
    return files


def _things(
    files: list[Path], picture: Path, found: Collected, name: str
) -> tuple[list[Thing], tuple[int, int] | None]:
    """What an annotation says is in a picture, and the size that it says it has."""
    beside = [path for path in files if path.parent.name == picture.parent.name]
    chosen = beside or files
    if not chosen:
        return [], None
    try:
        if len(chosen) > 1:
            raise ValueError(f"{len(chosen)} files are called {picture.stem}.xml")
        return _parsed(chosen[0])
    except (OSError, ValueError, ET.ParseError) as error:
        found.problems.append(Problem("annotation that can't be read", name, str(error)))
        return [], None


def _parsed(file: Path) -> tuple[list[Thing], tuple[int, int] | None]:
    root = ET.parse(file).getroot()
    size = tuple(int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    things = [Thing((each.findtext("name") or "").strip(), _box(each)) for each in root.iter("object")]
    return things, (size[0], size[1]) if all(size) else None


def _box(thing: ET.Element) -> Box:
    """VOC's, whose first pixel is number 1, its last one included."""
    x0, y0, x1, y1 = (float(thing.findtext(f"bndbox/{edge}") or "nan") for edge in ("xmin", "ymin", "xmax", "ymax"))
    if not all(edge == edge for edge in (x0, y0, x1, y1)):
        raise ValueError("an object has no bndbox of xmin, ymin, xmax and ymax")
    return x0 - 1, y0 - 1, x1, y1


DATASET = Folders()
