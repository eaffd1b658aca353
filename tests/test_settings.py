"""What is derived from settings."""

import pytest

from gradcam_service.settings import Settings


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_is_empty_is_not_set(monkeypatch, name):
    without = Settings()
    monkeypatch.setenv(f"GRADCAM_{name.upper()}", "")
    assert Settings() == without


@pytest.mark.parametrize(
    ("cores", "given", "devices", "processes"),
    [
        (16, {}, ["cpu"], None),
        (16, {}, ["cuda:0"], 4),  # 8 would each accept fewer images than one request may have
        (16, {"queue_size": 1000}, ["cuda:0"], 8),
        (16, {"queue_size": 1000}, ["cuda:0", "cuda:1"], 8),
        (1, {}, ["cuda:0"], 1),
        (16, {"api_processes": 2}, ["cuda:0"], 2),
    ],
)
def test_api_processes_feed_the_devices(monkeypatch, cores, given, devices, processes):
    monkeypatch.setattr("gradcam_service.settings.usable", lambda: cores)
    settings = Settings(**given).for_devices(devices)
    assert settings.api_processes == processes
    assert settings.most_images == 32
