"""Orientation of the values of a graph: how the network has mirrored or turned the picture before it computed them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from gradcam_service.explain.graph import image_node, operator_name
from gradcam_service.explain.layout import PICTURES, Frame


def frames_of(graph: fx.Graph, last: Mapping[fx.Node, bool | None]) -> dict[fx.Node, Frame]:
    """The frame of every value; of one made of values of several frames, the picture's.

    Args:
        graph: of a network.
        last: whether a value's channels come last, from `gradcam_service.explain.layout.channels_last`.
    """
    found = {image_node(graph): PICTURES}
    for node in graph.nodes:
        sources = [source for source in node.all_input_nodes if source in found]
        if not sources:
            continue
        frames = {found[source] for source in sources}
        before = frames.pop() if len(frames) == 1 else PICTURES
        rank = getattr(sources[0].meta.get("val"), "ndim", 0)
        found[node] = _after(node, before, (1, 2) if last[sources[0]] else (2, 3)) if rank == len("NCHW") else before
    return found


def _after(node: fx.Node, before: Frame, plane: tuple[int, int]) -> Frame:
    """The frame after an operator on a value whose rows and columns are the dimensions ``plane``."""
    name, arguments = operator_name(node), node.args[1:]
    if name == "flip":
        return before.then_mirrored(_axes(arguments[0], plane))
    if name == "transpose" and _axes(arguments, plane) == {0, 1}:
        return before.then_transposed()
    if name == "permute":
        order = [dimension % len("NCHW") for dimension in arguments[0]]  # type: ignore[union-attr, operator]
        return before if order.index(plane[0]) < order.index(plane[1]) else before.then_transposed()
    if name == "rot90":
        quarters, dimensions = (*arguments, 1, (0, 1))[:2] if len(arguments) > 1 else (1, (0, 1))
        for _ in range(int(quarters) % 4 if _axes(dimensions, plane) == {0, 1} else 0):  # type: ignore[arg-type]
            before = before.then_mirrored(_axes(dimensions[1:], plane)).then_transposed()  # type: ignore[index]
    return before


def _axes(dimensions: object, plane: tuple[int, int]) -> set[int]:
    """Which of rows (0) and columns (1) some dimensions are."""
    return {plane.index(one % len("NCHW")) for one in dimensions if one % len("NCHW") in plane}  # type: ignore[attr-defined]
