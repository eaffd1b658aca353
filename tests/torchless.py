"""An environment that has what the slim image installs, as this one has it, and no torch."""

from __future__ import annotations

import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from live import Service, running
from repository import ROOT
from requirements import requirements

OURS = "gradcam-service"


def environment(folder: Path) -> Path:
    """Make one in a folder; its Python, which finds the service where this one does."""
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "service.pth").write_text(f"{ROOT / 'service'}\n")
    for found in (distribution(OURS), *installed(requirements(ROOT / "pyproject.toml", slim=True))):
        for name in sorted(top_level(found)):
            link = packages / name
            if not link.exists():  # a folder that several share, as google is
                link.symlink_to(found.locate_file(name))
    return folder / "bin" / Path(sys.executable).name


def installed(wanted: list[str]) -> list[Distribution]:
    """The distributions that are installed for these requirements, and for theirs."""
    found: dict[str, Distribution] = {}
    asked = [Requirement(one) for one in wanted]
    while asked:
        requirement = asked.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = distribution(name)
        own = map(Requirement, found[name].requires or ())
        extras = ("", *requirement.extras)
        asked += [
            each
            for each in own
            if canonicalize_name(each.name) not in found
            and (each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras))
        ]
    return list(found.values())


def top_level(found: Distribution) -> set[str]:
    """What it has put into site-packages, without the files by which this project is found."""
    own = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    return {name for name in own if not (found.name == OURS and not name.endswith(".dist-info"))}


@contextmanager
def running_torchless(python: Path, **settings: object) -> Iterator[Service]:
    """Start the service in such an environment, with the models of a repository of compiled `scenes` alone."""
    with running(*serve(python), **({"device": "cpu", "timeout_ms": 120_000, "embedded": False} | settings)) as service:
        yield service


def serve(python: Path) -> list[str]:
    """The command that starts it."""
    return [str(python), "-E", "-P", "-m", "gradcam_service", "serve"]
