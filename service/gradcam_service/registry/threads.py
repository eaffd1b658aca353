"""Number of threads that compute while a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def half_of_the_threads() -> Iterator[None]:
    """Compute with half as many threads while in it: batches are answered meanwhile.

    Threads that wait for others which have no processor spin. On two processors, both busy, the checks of
    EfficientNet-Lite0 took 8 to 18 s with two threads and 1 s with one.

    Nothing that is to answer is made in it, as what takes its number of threads from torch, such as a session of ONNX
    Runtime, keeps it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
