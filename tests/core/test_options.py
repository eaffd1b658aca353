"""What readers of the options' schema are told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from gradcam_service.core.options import alternatives


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (int, [{"type": "integer"}]),
        (Annotated[float, Field(gt=0, le=1)] | None, [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}]),
        (Literal["own"] | float, [{"type": "string", "const": "own", "enum": ["own"]}, {"type": "number"}]),
        (list[Literal["map", "heatmap"]] | None, [{"type": "string", "enum": ["map", "heatmap"]}]),
        (list[str], [{"type": "array", "items": {"type": "string"}}]),
    ],
)
def test_alternatives_are_what_may_be_written_for_an_option(kind: Any, told: list[dict[str, Any]]):
    assert list(alternatives(TypeAdapter(kind).json_schema())) == told
