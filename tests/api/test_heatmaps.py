"""A heatmap is the map, stretched over what the model saw, as the indices of a transparent PNG."""

import matplotlib as mpl
import numpy as np
import pytest
import torch

from . import truth
from .calls import STAR, a_star, encoded, explain, opened, photo, values

COLORMAPS = ("turbo", "viridis", "inferno", "magma", "plasma", "cividis", "jet", "gray")


def interpolated(cam, size):
    """Torch's own bilinear interpolation of a map to (height, width), min-max normalised, times 255."""
    grid = torch.tensor(cam)[None, None]
    heat = torch.nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return (heat - heat.min()) / np.ptp(heat) * 255


def both(client, data, **options):
    """An explanation with its heatmap's indices and its map."""
    explanation = explain(client, data, output=["heatmap", "map"], **options)
    image = opened(explanation["heatmap"])
    assert (image.format, image.mode) == ("PNG", "P")
    return explanation, np.asarray(image).astype(float), values(explanation["map"])


@pytest.mark.parametrize(("model", "side"), [("resnet18", 224), ("alexnet", 224), ("scenes", 128)])
def test_the_indices_of_a_heatmap_are_torchs_interpolation_of_the_map(client, model, side):
    _, indices, cam = both(client, a_star((500, 375)), model=model, size="input", target=STAR[model])
    assert indices.shape == (side, side)
    assert np.abs(indices - interpolated(cam, (side, side))).max() <= 1
    assert (indices.min(), indices.max()) == (0, 255)


@pytest.mark.parametrize("model", ["resnet18", "alexnet", "scenes"])
def test_a_heatmap_of_the_maps_own_size_is_the_map(client, model):
    _, indices, cam = both(client, a_star((500, 375)), model=model, size="map", target=STAR[model])
    assert indices.shape == cam.shape
    assert np.abs(indices - (cam - cam.min()) / np.ptp(cam) * 255).max() <= 1


@pytest.mark.parametrize("model", ["resnet18", "scenes"])
@pytest.mark.parametrize("size", [(500, 375), (230, 600), (900, 200)])
def test_a_heatmap_of_the_picture_lies_where_the_model_saw_it(client, model, size):
    explanation, indices, cam = both(client, a_star(size), model=model, target=STAR[model])
    expected, covered = truth.levels(cam, explanation["region"], size)
    assert indices.shape == expected.shape
    assert np.abs(indices - expected).max() <= 1
    assert not indices[~covered].any()
    assert covered.all() == (model == "scenes")


def test_a_heatmap_reduced_to_max_side_lies_where_the_model_saw_it(client):
    explanation, indices, cam = both(client, a_star((900, 600)), model="resnet18", target=5, max_side=300)
    expected, _ = truth.levels(cam, [edge / 3 for edge in explanation["region"]], (300, 200))
    assert np.abs(indices - expected).max() <= 1


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (900, 450)),
        ({"size": "image"}, (900, 450)),
        ({"max_side": 900}, (900, 450)),
        ({"max_side": 300}, (300, 150)),
        ({"max_side": 16}, (16, 8)),
        ({"max_side": 4096}, (900, 450)),
        ({"size": "input", "max_side": 16}, (224, 224)),
        ({"size": "map", "max_side": 16}, (7, 7)),
    ],
)
def test_size_and_max_side_give_the_size_of_both_pictures(client, options, size):
    data = encoded(photo(900, 450), "JPEG")
    explanation = explain(client, data, model="resnet18", output=["heatmap", "overlay"], **options)
    assert opened(explanation["heatmap"]).size == size
    assert opened(explanation["overlay"]).size == size


def test_a_picture_is_at_most_1024_pixels_long_by_default(client):
    explanation = explain(client, encoded(photo(1000, 2048), "JPEG"))
    assert opened(explanation["heatmap"]).size == (500, 1024)


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_the_palette_is_the_colormap_and_the_opacity_the_level(client, png, colormap):
    explanation = explain(client, png, colormap=colormap)
    image = opened(explanation["heatmap"])
    palette = np.array(image.getpalette()).reshape(-1, 3)
    expected = mpl.colormaps[colormap](np.arange(256))[:, :3] * 255
    assert palette.shape == expected.shape
    assert np.abs(palette - expected).max() <= 1
    assert image.info["transparency"] == bytes(range(256))
    shown = np.asarray(image.convert("RGBA"))
    assert (shown == np.dstack([palette[np.asarray(image)], np.asarray(image)])).all()


def test_turbo_is_the_default_colormap(client, png):
    assert explain(client, png)["heatmap"] == explain(client, png, colormap="turbo")["heatmap"]


def test_the_heatmap_of_an_empty_map_is_transparent_everywhere(client, png, picture):
    target = int(truth.weighted_sums(picture).max(axis=(1, 2)).argmin())
    explanation, indices, _ = both(client, png, model="resnet18", target=target)
    assert explanation["empty"]
    assert not indices.any()
