import pytest

from gradcam_service.serving import devices
from gradcam_service.settings import Settings
from gradcam_service.worker.placement import placements


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("cpu", ["cpu"]),
        ("cpu,cpu", ["cpu:0", "cpu:1"]),
        ("cuda:0, cuda:1", ["cuda:0", "cuda:1"]),
        ("cuda:0,cpu,cuda:0", ["cuda:0:0", "cpu", "cuda:0:1"]),
    ],
)
def test_no_two_workers_have_one_name(setting: str, names: list[str]):
    placed = placements(devices(Settings(device=setting).device))
    assert [one.name for one in placed] == names
    assert [one.device for one in placed] == [part.strip() for part in setting.split(",")]


def test_workers_on_one_device_share_what_it_has():
    shared, alone = placements(["cpu", "cuda:0", "cpu", "cpu"])[:2]
    assert [shared.share(whole) for whole in (9, 2, 0)] == [3, 1, 0]
    assert [alone.share(whole) for whole in (9, 2, 0)] == [9, 2, 0]


@pytest.mark.parametrize("setting", ["", "cpu,", "cpu,auto", "gpu", "cuda", "cpu;cpu", "cuda:0:1"])
def test_what_is_no_list_of_devices_is_refused(setting: str):
    with pytest.raises(ValueError, match="device"):
        Settings(device=setting)
