"""Services and pictures for the tests of the HTTP contract."""

from contextlib import ExitStack

import pytest
from captions import decoders
from inputs.models import written
from tasks import agents, answerers

from collector import Collector
from live import running_eagerly, running_lightly

from .calls import encoded, photo


@pytest.fixture(scope="session")
def client(service):
    """Speaks to the service with the models scenes, resnet18 and alexnet, and two API processes."""
    return service.client


@pytest.fixture(scope="session")
def limited():
    """A service with small limits, one API process, the embedded models only, and no admin token."""
    bounds = {"max_body_bytes": 200_000, "max_bytes_in_flight": 400_000, "max_pixels": 1_000_000}
    bounds |= {"cors_origins": "https://app.example.com, http://localhost:3000"}
    with running_lightly(**bounds, max_images=3, max_targets=2, queue_size=3, max_drawn_pixels=1_000_000) as started:
        yield started


@pytest.fixture(scope="session")
def numbers(tmp_path_factory):
    """Settings with which a service has models that take numbers, frames or text."""
    root = tmp_path_factory.mktemp("numbers")
    settings = written(root) | agents.written(root) | answerers.written(root)
    return settings | decoders.written(root, {"attends": "made", "silent": "silent"})


@pytest.fixture(scope="session")
def collector():
    with Collector() as started:
        yield started


@pytest.fixture(scope="session")
def traced(collector, numbers):
    """A service that logs all there is and sends spans soon after each request, with the models of `numbers`."""
    with ExitStack() as lasting:
        with pytest.MonkeyPatch.context() as environment:  # of this service alone
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")  # is not set, as the specification says
            environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
            environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=attic")
            started = lasting.enter_context(running_eagerly(**numbers, tracing=True, log_level="debug", grpc_port=0))
        yield started


@pytest.fixture(scope="session")
def scene(client):
    """The example picture as its JPEG file: a star and a flower."""
    return client.get("/docs/scene.jpg").content


@pytest.fixture(scope="session")
def picture():
    """A photo-like picture of 500×375 pixels."""
    return photo(500, 375)


@pytest.fixture(scope="session")
def png(picture):
    """`picture` as a file that loses nothing."""
    return encoded(picture, "PNG")
