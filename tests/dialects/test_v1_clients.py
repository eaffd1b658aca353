"""KServe's client of its V1 protocol, unchanged."""

import pytest
from numpy.testing import assert_allclose
from PIL import Image, ImageChops

from api.calls import encoded, explain, predict, values

pytestmark = pytest.mark.clients


def probabilities(client, data):
    """Of all classes, in their order, as the service's own protocol tells them."""
    best = predict(client, data, top_k=12)
    return [entry["probability"] for entry in sorted(best, key=lambda entry: entry["index"])]


def test_kserves_client_reads_what_the_services_own_protocol_says(ask, service, tmp_path):
    scene = service.client.get("/docs/scene.jpg").content
    (tmp_path / "scene.jpg").write_bytes(scene)
    told = ask("kserve/rest_v1.py", "scenes", tmp_path / "scene.jpg")
    for name in ("star", "flower"):
        own = explain(service.client, scene, output="map", target=name)
        assert_allclose(told.arrays[name], values(own["map"]), rtol=0, atol=1e-6 * own["max"])
    assert_allclose(told.arrays["scores"], probabilities(service.client, scene), atol=1e-6)
    small = Image.open(tmp_path / "scene.jpg").convert("RGB").resize((64, 48))
    each = [probabilities(service.client, encoded(one, "PNG")) for one in (small, ImageChops.invert(small))]
    assert_allclose(told.arrays["black_box"], each, atol=1e-6)
    said = told.said
    assert said["live"] is True
    assert said["model ready"] is True
    assert "unknown_model: there is no model 'nothing'" in said["no model"]
    assert '"instances"' in said["nothing"]
    assert said["bad one"]["error"].startswith("malformed: ")
    assert said["key"] == "1"
