"""Which devices there are, and which workers they get."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from gradcam_service.settings import Settings
from gradcam_service.worker.placement import count_gpus, devices, pick_device, placements
from live import until


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


def test_devices_go_by_their_names():
    assert pick_device("cpu") == "cpu"
    assert pick_device("cuda:1, cpu") == "cuda:1"
    assert pick_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")


def asking() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "device_count" in " ".join(child.cmdline())]


def test_counting_gpus_ends_when_the_process_that_counts_is_killed():
    with ThreadPoolExecutor(1) as thread:
        counting = thread.submit(count_gpus)
        until(lambda: len(asking()), 1)
        asking()[0].kill()
        with pytest.raises(OSError, match="the process that asks torch dies; GRADCAM_DEVICE names one"):
            counting.result()


def test_where_there_is_no_gpu_none_is_counted():
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there are GPUs")
    assert count_gpus() == 0
