"""Reports of what has changed between two model tables of a worker, to the log and to Prometheus. Torch-free."""

from __future__ import annotations

import logging

from gradcam_service import metrics
from gradcam_service.worker.table import Table, moves

log = logging.getLogger(__name__)


def log_aliases(before: Table, after: Table) -> None:
    """Tell the log which aliases have moved, and which can't."""
    for alias, was, now in moves(before, after):
        log.info("alias moved", extra={"fields": {"alias": alias, "from": was, "to": now}})
    for stuck in after.stuck():
        if stuck not in before.stuck():
            fields = {"alias": f"{stuck.name}@{stuck.alias}", "reason": str(stuck)}
            log.warning("an alias can't move", extra={"fields": fields})


def publish(before: Table, after: Table) -> None:
    """Tell Prometheus which models are ready and which have failed."""
    old, new = _cards(before), _cards(after)
    for ready, cards in ((0, old - new), (1, new - old)):
        for labels in cards:
            metrics.MODEL_INFO.labels(*labels).set(ready)
    for key in before.versions.keys() | after.versions.keys():
        was, now = (bool(of.versions[key].failure) if key in of.versions else False for of in (before, after))
        if was != now or key not in before.versions:
            name, _, number = key.partition("@")
            metrics.MODEL_FAILED.labels(name, number).set(now)


def _cards(table: Table) -> set[tuple[str, str, str]]:
    """The name, version and digest of what can answer."""
    found = [(version.entry, version.card) for version in table.models.values()]
    return {(entry.name, entry.version, card.digest) for entry, card in found if card is not None}
