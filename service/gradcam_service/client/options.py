"""Options of requests for type checkers, made of `gradcam_service.core.options` and the targets by ``make docs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict

Contrast = TypedDict("Contrast", {"class": int | str, "against": int | str | Sequence[int | str]})
"""a class against others, {"class": P, "against": Q}, Q one, a list or "rest", all others"""

StateValue = TypedDict("StateValue", {"output": Literal["value"]})  # noqa: UP013  as the others are
"""of an agent that gives it, the value of the state, {"output": "value"} or value by itself"""

Word = TypedDict("Word", {"word": int | str})  # noqa: UP013  as the others are
"""of a caption, a word, 4 or {"word": 4}, by its index from 0, or "star" or {"word": "star"}, the first such"""

Target: TypeAlias = int | str | Contrast | StateValue | Word
"""what to explain: a class by its index or label, or an object"""


class PredictOptions(TypedDict, total=False):
    """Options of ``/predict``, as docs/api.md and docs/methods.md list them."""

    caption: str
    """of a captioner, a text of your own in the place of the model's: how the model scores it, and its words are
    explained
    """
    question: str
    """what is asked about the image, of a model of task `vqa`, which needs it"""
    beam: int
    """of a captioner, how many captions are followed at once in search of the most probable one, each of whose words
    costs a pass of the decoder; 1: the most probable word follows each time
    """
    model: str
    """`name`, `name@version` or `name@alias`; default from the settings"""
    top_k: int
    """how many classes to report, the most probable first"""
    timeout_ms: int
    """give up after this many milliseconds; default from the settings"""


class ExplainOptions(PredictOptions, total=False):
    """Options of ``/explain``, as docs/api.md and docs/methods.md list them."""

    method: str
    """one of the model's `methods`; default: the model's `method`"""
    target: Target | Sequence[Target]
    """what to explain, repeatable; default: the top-1 class of each image. a class, by index or label; a class against
    others, {"class": P, "against": Q}, Q one, a list or "rest", all others; of an agent that gives it, the value of
    the state, {"output": "value"} or value by itself; of a regressor, one of its values, by index or label; of a
    caption, a word, 4 or {"word": 4}, by its index from 0, or "star" or {"word": "star"}, the first such; in form
    fields and queries, objects are JSON text
    """
    layer: str
    """`auto` (the last convolutional layer), one of the model's `layers`, or any module with a spatial extent inside of
    them, such as `layer4.1.conv2`
    """
    output: Literal["heatmap", "overlay", "map"] | Sequence[Literal["heatmap", "overlay", "map"]]
    """what to return, repeatable; default: `heatmap`"""
    format: Literal["png", "jpeg", "webp"]
    """of the overlay; a heatmap is always a PNG"""
    colormap: Literal["turbo", "viridis", "inferno", "magma", "plasma", "cividis", "jet", "gray", "coolwarm", "berlin"]
    """from cold to hot, or with 0 in its middle; default: `turbo`, for signed maps `coolwarm`"""
    clip: float
    """of a signed map: share of the |values| that its own scale holds; 1: all"""
    scale: Literal["own", "shared"] | float
    """the value of the strongest colour: each map's `own`, the largest of the request (`shared`), or a number; where it
    isn't the map's own, 0 is the weakest colour of an unsigned map
    """
    legend: bool
    """draw the scale, with its values, beside an overlay"""
    alpha: float
    """strength of the overlay"""
    blend: Literal["even", "level"]
    """how far the colours hide what is below them: `level`, the more the stronger the map, so that cold areas stay
    clear; `even`, alike all over what the model saw; default: `even` of overlays, `level` of heatmaps
    """
    outline: bool
    """draw a dashed line around what the model saw on an overlay, where that isn't all of it"""
    size: Literal["image", "input", "map"]
    """of the pictures: the original's, what the model sees, or the map's own"""
    max_side: int
    """longest side of a picture of size `image`, pixels"""
    boxes: bool
    """also return the box around the hottest area"""
    threshold: float
    """share of the map's maximum that counts as hot, for the box"""
    quality: bool
    """also measure each map: areas under its deletion and its insertion curve, and its rank correlation with another
    method's; many forward passes
    """
    quality_steps: int
    """of each curve; a forward pass each"""
    quality_against: str
    """the other method, with its default options; default: `gradcam`, of which it is `layercam`"""
    gamma: float
    """finercam: how much of similar classes is taken away; 1.0"""
    references: int
    """finercam: how many similar classes; 3"""
    steps: int
    """integrated_gradients: points of the quadrature; 50"""
    window: int
    """occlusion: side of the window, input pixels; 32"""
    stride: int
    """occlusion: step of the window, at most its side; 16"""
    masks: int
    """rise: how many masks; 1000"""
    cells: int
    """rise: cells along a side of a mask; 7"""
    keep: float
    """rise: share of cells that stay; 0.5"""
    seed: int
    """rise: of what is random; 0. smoothgrad: of what is random; 0"""
    samples: int
    """smoothgrad: noisy copies; 25"""
    noise: float
    """smoothgrad: noise as a share of the range; 0.15"""
