"""Files that installed Python packages carry, such as weights: ``package:NAME/path/in/it``. Torch-free."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.places import inside

SCHEME = "package:"


def packaged_file(reference: str) -> Path:
    """Find a file that an installed package carries; the package is not imported, so none of its code runs.

    Args:
        reference: ``package:NAME/path``, with the name that an import would use.

    Raises:
        ModelFailed: there is no such package or file, or it leads out of the package.
    """
    package, _, name = reference.removeprefix(SCHEME).partition("/")
    folder = _folder(package)
    if folder is None:
        raise ModelFailed(f"weights {reference}: no package {package!r} is installed here; install it with pip")
    try:
        path = inside(folder, name)
        found = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a NUL
        raise ModelFailed(f"weights {reference!r} are no path: {getattr(error, 'strerror', None) or error}") from error
    if not found:
        raise ModelFailed(f"weights {reference}: the package has no such file")
    return path


def _folder(package: str) -> Path | None:
    """Where a package lies; None where none of that name is installed. A dotted name would import its parents."""
    if not package.isidentifier():
        return None
    try:
        spec = find_spec(package)
    except ValueError:  # of a module that runs and has none, such as __main__
        return None
    if spec is None or spec.origin is None or not spec.submodule_search_locations:  # a module, or a bare folder
        return None
    return Path(spec.submodule_search_locations[0])
