"""A service that is asked what nobody would ask, with models of every kind of picture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inputs.models import written

from live import Service, running_eagerly


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It decodes four megapixels at most, and takes 50 forward passes for an explanation."""
    bounds = {"max_pixels": 4_000_000, "max_forward_passes": 50, "log_level": "warning", "grpc_port": 0}
    with running_eagerly(**written(tmp_path_factory.mktemp("fuzz")), **bounds) as service:
        yield service
