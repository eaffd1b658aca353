"""What readers of the options' schema are told, and callers whose options belong elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from gradcam_service.core.options import ExplainOptions, PredictOptions, alternatives
from gradcam_service.naming import complaint


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


@pytest.mark.parametrize("option", ["target", "method", "masks", "alpha"])
def test_an_option_of_explanations_is_refused_with_where_it_belongs(option: str):
    with pytest.raises(
        ValidationError, match=f"'{option}' is an option of /explain; /predict has model, top_k, timeout"
    ):
        PredictOptions.model_validate({"top_k": "3", option: "1"})


@pytest.mark.parametrize("size", ["800", 800])
def test_a_size_in_pixels_is_told_the_option_that_takes_it(size: object):
    with pytest.raises(ValidationError, match="'image', 'input' or 'map'; max_side sets the longest side in pixels"):
        ExplainOptions.model_validate({"size": size})


@pytest.mark.parametrize(
    ("option", "written", "bounds"),
    [("alpha", "50%", "at least 0 and at most 1"), ("threshold", "half", "above 0 and at most 1")],
)
def test_what_is_no_number_is_told_the_bounds(option: str, written: str, bounds: str):
    with pytest.raises(ValidationError) as caught:
        ExplainOptions.model_validate({option: written})
    assert complaint(caught.value.errors()[0], ExplainOptions).endswith(f"as a number; {bounds}")
