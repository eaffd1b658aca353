"""The environments of other servers' clients."""

import re

import pytest

from .conftest import HERE

REQUIREMENTS = sorted(HERE.glob("*/requirements.txt"))


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.parent.name)
def test_all_that_a_client_is_installed_with_is_pinned(path):
    lines = path.read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []
    assert not {"torch", "torchvision"} & {line.partition("==")[0] for line in lines}
