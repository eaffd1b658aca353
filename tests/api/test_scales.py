"""What a map's colours mean: its kind, the ends of its scale, and the scale that several maps share."""

import numpy as np
import pytest

from .calls import a_star, ask, encoded, explain, opened, photo, problem, result, values


def levels(explanation):
    return np.asarray(opened(explanation["heatmap"])).astype(float)


def drawn(cam, low, high):
    """Levels of an unsigned map at its own size."""
    return np.clip((cam - low) / (high - low), 0, 1) * 255


def test_an_unsigned_map_has_its_own_scale_from_lowest_to_highest(client, png):
    explanation = explain(client, png, model="resnet18", output=["heatmap", "map"], size="map", target=5)
    cam = values(explanation["map"])
    assert explanation["kind"] == "unsigned"
    assert explanation["scale"] == pytest.approx([cam.min(), cam.max()], rel=1e-5)
    assert "scale" not in explain(client, png, output="map")


def test_signed_colours_are_clipped_so_that_they_can_be_seen_and_the_map_is_raw(client, png):
    asked = {"model": "resnet18", "method": "guided_backprop", "output": ["heatmap", "map"], "size": "input"}
    for clip, options in ((0.995, {}), (0.9, {"clip": 0.9}), (1.0, {"clip": 1})):
        explanation = explain(client, png, **asked, **options)
        cam = values(explanation["map"])
        high = np.sort(np.abs(cam), axis=None)[int(np.ceil(clip * cam.size)) - 1]
        assert explanation["kind"] == "signed_colour"
        assert explanation["scale"] == pytest.approx([-high, high])
        assert np.abs(levels(explanation) - (128 + 127 * np.clip(cam / high, -1, 1))).max() <= 0.51
        assert np.abs(cam).max() > high or clip == 1.0


def test_a_signed_map_is_drawn_about_zero_in_a_diverging_colormap(client, png):
    asked = {"model": "resnet18", "method": "occlusion", "window": 64, "stride": 64, "size": "input", "target": 5}
    explanation = explain(client, png, **asked, output=["heatmap", "map", "overlay"])
    cam = values(explanation["map"]).reshape(224, 224, -1)[:, :, 0]
    assert explanation["kind"] == "signed"
    assert cam.min() < 0 < cam.max()  # else the test shows nothing
    high = np.sort(np.abs(cam), axis=None)[int(np.ceil(0.995 * cam.size)) - 1]
    assert explanation["scale"] == pytest.approx([-high, high])
    assert np.abs(levels(explanation) - (128 + 127 * np.clip(cam / high, -1, 1))).max() <= 0.51
    palette = np.array(opened(explanation["heatmap"]).getpalette()).reshape(256, 3)
    assert palette[[1, 255]].tolist() == [[59, 76, 192], [180, 4, 38]]
    assert np.ptp(palette[128]) <= 1
    assert explain(client, png, **asked, colormap="viridis")["heatmap"] != explanation["heatmap"]


def test_targets_on_a_shared_scale_can_be_compared(client, png):
    asked = {"model": "resnet18", "output": ["heatmap", "map"], "size": "map", "target": [1, 2, 3]}
    explanations = result(ask(client, "/explain", png, **asked, scale="shared"))["explanations"]
    cams = [values(explanation["map"]) for explanation in explanations]
    highest = max(cam.max() for cam in cams)
    for explanation, cam in zip(explanations, cams, strict=True):
        assert explanation["scale"] == pytest.approx([0, highest], rel=1e-6)
        np.testing.assert_allclose(levels(explanation), drawn(cam, 0, highest), atol=0.51)


def test_a_scale_is_shared_by_all_pictures_of_a_request_whatever_is_wrong_with_others(client):
    pictures = [encoded(photo(90, 60, seed), "PNG") for seed in range(3)]
    files = [("image", data) for data in (pictures[0], b"no picture", *pictures[1:])]
    asked = {"model": "resnet18", "output": ["heatmap", "map"], "target": "5", "scale": "shared", "size": "map"}
    first, wrong, *rest = client.post("/explain", files=files, data=asked).json()["results"]
    assert wrong["error"]["code"] == "undecodable_image"
    explanations = [one["explanations"][0] for one in (first, *rest)]
    highest = max(values(explanation["map"]).max() for explanation in explanations)
    for explanation in explanations:
        assert explanation["scale"] == pytest.approx([0, highest], rel=1e-6)
        np.testing.assert_allclose(levels(explanation), drawn(values(explanation["map"]), 0, highest), atol=0.51)


def test_a_scale_may_be_a_number(client, png):
    explanation = explain(client, png, model="resnet18", output=["heatmap", "map"], size="map", target=5, scale=0.25)
    assert explanation["scale"] == [0, 0.25]
    np.testing.assert_allclose(levels(explanation), drawn(values(explanation["map"]), 0, 0.25), atol=0.51)


@pytest.mark.parametrize("scale", ["big", "0", "-1", "nan", "inf", "1e39"])
def test_a_scale_that_is_none_is_refused_saying_what_would_work(client, png, scale):
    assert "own, shared or a number above 0" in problem(ask(client, "/explain", png, scale=scale), 400, "bad_option")


def test_a_legend_is_beside_the_overlay(client):
    data = a_star((300, 200))
    plain, with_legend = (
        opened(explain(client, data, output="overlay", format="png", legend=legend)["overlay"])
        for legend in ("false", "true")
    )
    assert plain.size == (300, 200)
    assert with_legend.width > 320
    assert with_legend.crop((0, 0, 300, 200)).tobytes() == plain.tobytes()
