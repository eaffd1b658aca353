"""Explanation methods, one file each. A file's name is the method's in requests, its ``METHOD`` says all about it.

Files import torch where they compute, not when they are imported, since processes without torch read them, too.
"""

from __future__ import annotations

from gradcam_service.explain.method import Batched, Method
from gradcam_service.kinds import Kinds

METHODS: Kinds[Method] = Kinds(__name__, "METHOD")
DEFAULT = "gradcam"
COMPARED = (DEFAULT, "layercam", "eigencam", "occlusion")
"""What a map is compared with where nothing is named: the first that is another method, and that the model can do."""


def in_order() -> list[str]:
    """The methods' names as lists show them: the default, others that ride in the batch, the expensive ones."""

    def place(name: str) -> tuple[object, ...]:
        method = METHODS[name]
        return name != DEFAULT, not isinstance(method, Batched), method.of_input, name

    return sorted(METHODS, key=place)
