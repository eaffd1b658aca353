"""What is derived from settings."""

import pytest

from gradcam_service.settings import Settings, misspelt


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_is_empty_is_not_set(monkeypatch, name):
    without = Settings()
    monkeypatch.setenv(f"GRADCAM_{name.upper()}", "")
    assert Settings() == without


def test_a_variable_that_is_no_setting_is_told_of_with_the_nearest_that_is():
    told = misspelt(["GRADCAM_QUEUE_SIZ", "gradcam_port", "GRADCAM_API_KEY", "GRADCAM_XYZ", "GRADCAM", "PATH"])
    assert list(told) == [
        "GRADCAM_QUEUE_SIZ is no setting and changes nothing; did you mean GRADCAM_QUEUE_SIZE?",
        "GRADCAM_XYZ is no setting and changes nothing",
    ]


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
