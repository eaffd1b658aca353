"""What is derived from settings."""

import pytest
from pydantic import ValidationError

from gradcam_service.errors import BadSettings
from gradcam_service.settings import Settings, misspelt


@pytest.mark.parametrize("name", Settings.model_fields)
def test_what_is_empty_is_not_set(monkeypatch, name):
    without = Settings()
    monkeypatch.setenv(f"GRADCAM_{name.upper()}", "")
    assert Settings() == without


def test_a_variable_that_is_no_setting_is_told_of_with_the_nearest_that_is():
    names = [
        "GRADCAM_QUEUE_SIZ",
        "gradcam_port",
        "GRADCAM_API_KEY",
        "GRADCAM_API_KEY_FILE",
        "GRADCAM_DEFALT_MODEL",
        "GRADCAM_XYZ",
    ]
    assert list(misspelt(dict.fromkeys([*names, "GRADCAM", "PATH"], "1"))) == [
        "GRADCAM_QUEUE_SIZ is no setting and changes nothing; did you mean GRADCAM_QUEUE_SIZE?",
        "GRADCAM_API_KEY_FILE is no setting and changes nothing; did you mean GRADCAM_API_KEYS?",
        "GRADCAM_DEFALT_MODEL is no setting and changes nothing; did you mean GRADCAM_DEFAULT_MODEL?",
        "GRADCAM_XYZ is no setting and changes nothing",
    ]


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:", "cuda:0,gpu", "auto,cpu", "cpu\n", ""])
def test_a_device_that_there_is_not_is_told_which_are(device):
    with pytest.raises(ValidationError, match=r"auto .*, cpu, cuda:0 \(the first GPU\)"):
        Settings(device=device)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:0", "cuda:0, cuda:11,cpu"])
def test_devices_are_taken_as_they_are_written(device):
    assert Settings(device=device).device == device


def test_what_kubernetes_tells_of_services_is_not_taken_for_settings(monkeypatch):
    """What a pod has in its environment of Services gradcam and gradcam-metrics, of one named port each."""
    links = {}
    for service, port in (("GRADCAM", 80), ("GRADCAM_METRICS", 9000)):
        links |= {f"{service}_SERVICE_HOST": "10.96.0.7", f"{service}_SERVICE_PORT": str(port)}
        links |= {f"{service}_SERVICE_PORT_HTTP": str(port), f"{service}_PORT": f"tcp://10.96.0.7:{port}"}
        links |= {f"{service}_PORT_{port}_TCP": f"tcp://10.96.0.7:{port}", f"{service}_PORT_{port}_TCP_PROTO": "tcp"}
        links |= {f"{service}_PORT_{port}_TCP_PORT": str(port), f"{service}_PORT_{port}_TCP_ADDR": "10.96.0.7"}
    assert list(misspelt(links)) == []
    assert list(misspelt({"GRADCAM_METRIC_PORT": "9000"})) == [
        "GRADCAM_METRIC_PORT is no setting and changes nothing; did you mean GRADCAM_METRICS_PORT?"
    ]
    without = Settings()
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    assert Settings() == without
    monkeypatch.setenv("GRADCAM_PORT", "udp://10.96.0.7:80")
    with pytest.raises(ValidationError, match="port"):
        Settings()


@pytest.mark.parametrize(
    ("given", "names", "default"),
    [
        ({}, ["mine", "imagenet"], "imagenet"),
        ({"embedded": False}, ["mine", "imagenet"], "imagenet"),  # the operator's own
        ({"embedded": False, "default_model": "mine@stable"}, ["mine", "other"], "mine@stable"),
    ],
)
def test_the_default_model_is_the_one_that_is_named(given, names, default):
    assert Settings(**given).default_among(names) == default


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["mine"], "is to name one of mine"),  # the only one, until another is published while this one runs
        (["mine", "other"], "is to name one of mine, other"),
        ([], "the repositories have none"),
    ],
)
def test_without_the_embedded_models_a_default_has_to_be_named(names, says):
    with pytest.raises(BadSettings, match=f"leaves imagenet out; GRADCAM_DEFAULT_MODEL .*{says}"):
        Settings(embedded=False).default_among(names)


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
