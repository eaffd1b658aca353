"""A repository of captioners, served and in this process."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gradcam_service.local import open_model
from gradcam_service.settings import Settings
from live import running_eagerly

from .decoders import written


@pytest.fixture(scope="session")
def captioners(tmp_path_factory):
    """Settings: a captioner of each kind, and some that can't be one."""
    own = {"attends": "made", "silent": "silent", "pooled": "pooled", "peeking": "peeking", "alone": "alone"}
    # Under a name of its own: the service of tests/api has its models traced by the same process.
    return written(tmp_path_factory.mktemp("captioners"), own, "captioners_code") | {"device": "cpu"}


@pytest.fixture(scope="session")
def opened(captioners):
    """Opens one of them in this process, once."""
    found = {}

    def model(name):
        if name not in found:
            found[name] = open_model(name, Settings(**captioners))
        return found[name]

    return model


@pytest.fixture(scope="session")
def client(captioners):
    with running_eagerly(**captioners) as started:
        yield started.client


@pytest.fixture(scope="session")
def pictures():
    """Ten of them, as PNG files."""
    drawn = np.random.default_rng(1).integers(0, 256, (10, 4, 4, 3), np.uint8)
    return [png(np.repeat(np.repeat(one, 8, 0), 8, 1)) for one in drawn]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def image_of(data):
    """A picture as the models of these tests take it: (1, 3, H, W) float32."""
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32) / 255
    return torch.from_numpy((pixels.transpose(2, 0, 1) - 0.5) / 0.25)[None]
