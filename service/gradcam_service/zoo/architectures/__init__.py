"""The networks of the embedded models: a file each, named as `model.yaml` does, whose `ARCHITECTURE` builds one."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gradcam_service.kinds import Kinds

ARCHITECTURES: Kinds[Callable[[], nn.Module]] = Kinds(__name__, "ARCHITECTURE")
