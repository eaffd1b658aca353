"""Questions about images, as API processes ask them and models answer them."""

from __future__ import annotations

import msgspec

from gradcam_service.targets import Target


class Measure(msgspec.Struct, frozen=True):
    """Measurements to be made of each map, besides.

    Attributes:
        steps: of its deletion and its insertion curve.
        against: the method whose map it is compared with; empty for none.
    """

    steps: int
    against: str


class Question(msgspec.Struct, frozen=True):
    """Question about one image: the explanations that are asked for besides its scores.

    Attributes:
        layer: a layer's name, or ``auto``.
        targets: empty means what the model's task has explained by default.
        options: the method's own, where they differ from its defaults.
        measure: what is to be measured of the maps; None for nothing.
    """

    method: str
    layer: str = "auto"
    targets: tuple[Target, ...] = ()
    options: dict[str, int | float] = {}
    measure: Measure | None = None
