"""Max-sensitivity: Yeh et al., NeurIPS 2019, https://arxiv.org/abs/1901.09392."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.max_sensitivity import max_sensitivity
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.explain.method import Option


class MaxSensitivity(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Max-sensitivity"
    summary = (
        "The largest change of a map, as a share of its norm, when noise is added to the picture that one can hardly "
        "see. A map that never changes is perfectly insensitive, and says nothing."
    )
    paper = "https://arxiv.org/abs/1901.09392"
    figures = {"sensitivity": Figure("max-sensitivity", "less")}  # noqa: RUF012  a constant
    options = {  # noqa: RUF012  likewise
        "radius": Option(default=0.02, description="of the noise, in units of the network's input", gt=0, le=10),
        "samples": Option(default=10, description="noisy copies", ge=1, le=1000),
    }

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the noisy copies' maps."""
        return maps * (options["samples"] + 1) * cost(method)

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The sensitivity for each class."""
        rows = []
        for label in case.sample.labels:

            def explain(pictures: Any, label: int = label) -> Any:  # noqa: ANN401  arrays
                return case.explain(pictures, label)

            found = max_sensitivity(explain, case.image, options["radius"], int(options["samples"]), case.seed)
            rows.append({"label": label, "sensitivity": found})
        return rows


PROTOCOL = MaxSensitivity()
