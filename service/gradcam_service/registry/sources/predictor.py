"""Asks another server over HTTP, by either protocol of KServe: a black box, which some methods explain nevertheless.

While its answer is awaited the worker does nothing else, so that it belongs into a service of its own, as
``gradcam kserve`` starts one beside a predictor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder


def _build(folder: ModelFolder) -> Built:
    from gradcam_service.registry.predictor import predictor

    return predictor(folder)


def _awaits(folder: ModelFolder) -> None:
    from gradcam_service.registry.predictor import wait_until_ready

    wait_until_ready(folder)


SOURCE = Source(_build, architecture=False, weights=False, own_weights="of the predictor", options=True, awaits=_awaits)
