"""What readers of the options' schema are told, and callers whose options belong elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from gradcam_service.core.options import Call, ExplainOptions, PredictOptions, alternatives
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


def test_a_model_may_have_a_method_of_its_own_for_those_who_name_none():
    silent, named, predicting = ExplainOptions(), ExplainOptions(method="gradcam"), PredictOptions()
    assert Call([b""], silent).by("occlusion").options.method == "occlusion"
    assert Call([b""], named).by("occlusion").options is named
    assert Call([b""], predicting).by("occlusion").options is predicting
    own = Call([b"", b""], silent, [silent, named]).by("occlusion").own
    assert own is not None
    assert [options.method for options in own] == ["occlusion", "gradcam"]
