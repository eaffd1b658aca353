"""Traces models in the tests' own process, which has torch: a second of what a process of its own takes four for."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from gradcam_service import kinds
from gradcam_service.errors import ModelFailed
from gradcam_service.registry import cache, kept
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.repository import parse_spec, scan


def keep_traces(repositories: Iterable[Path], plugins: Path | None = None) -> None:
    """Trace the models of repositories, for services of these plugins to find in the cache."""
    from gradcam_service.registry.traces import keep_trace

    known = {constant: {**files} for constant, files in kinds._PLUGINS.items()}
    with patch.dict(kinds._PLUGINS, known, clear=True), patch.dict(kinds._CODE):
        kinds.load_plugins(plugins)
        for entry in scan(repositories, embedded=False):
            with suppress(ModelFailed):  # which a service says of it, too
                folder = ModelFolder(entry.spec(), entry.folder())
                if (key := kept.key_of(folder)) is None:
                    continue
                with cache.alone("trace"):  # of processes that begin with the same models, the first one does it
                    if not kept.holds("traces", key):
                        keep_trace(folder, key)


def keep_export(folder: Path) -> None:
    """Export the backbone of a model, as for `keep_traces`; its folder holds its ``model.yaml``."""
    from gradcam_service.registry import traces

    model = ModelFolder(parse_spec((folder / "model.yaml").read_text(), "model.yaml"), folder)
    traces.keep_export(model, traces.kept.key_of(model))
