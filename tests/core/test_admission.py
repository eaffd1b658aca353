"""What requests may hold of a process, and that all of it comes back."""

from __future__ import annotations

import pytest

from gradcam_service.core.admission import Capacity
from gradcam_service.errors import Overloaded, TooManyBytes
from gradcam_service.settings import Settings


@pytest.fixture
def capacity() -> Capacity:
    """Half of 8 images and of 1000 bytes: two processes share them."""
    return Capacity(Settings(queue_size=8, max_bytes_in_flight=1000, api_processes=2, cpus=1))


def test_images_are_held_until_they_are_computed(capacity: Capacity):
    with capacity.admit() as first:
        first.take_images(3)  # in all
        with capacity.admit():
            with pytest.raises(Overloaded, match="queue of 8 images"):
                capacity.admit()
            first.return_images()
            with capacity.admit() as third:
                third.take_images(3)
    assert capacity.images == 4


def test_a_request_that_is_refused_holds_nothing(capacity: Capacity):
    with capacity.admit(size=300):
        with pytest.raises(TooManyBytes, match="1000 bytes"):
            capacity.admit(size=201)
        assert (capacity.images, capacity.bytes) == (3, 200)
    assert (capacity.images, capacity.bytes) == (4, 500)


def test_bytes_are_held_until_the_end_and_may_become_more(capacity: Capacity):
    with capacity.admit(size=200) as first, capacity.admit(size=200) as second:
        first.return_images()
        second.take_bytes(100)
        with pytest.raises(TooManyBytes):
            first.take_bytes(1)
    assert capacity.bytes == 500


def test_a_request_that_is_alone_gets_what_it_needs(capacity: Capacity):
    with capacity.admit(size=600) as first:
        first.take_bytes(5000)
        with pytest.raises(TooManyBytes):
            capacity.admit(size=1)
    with capacity.admit(size=1), pytest.raises(TooManyBytes):
        capacity.admit(size=500)
    assert capacity.bytes == 500
