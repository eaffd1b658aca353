"""A method that weighs nothing: how strongly a score reacts to each cell of the feature maps, in whatever direction."""

from gradcam_service.explain.method import Array, Batched, Option


def sensitivity(features: Array, gradients: Array, power: float) -> Array:
    """The length of the gradient at each cell: (Σ_k (dy_c/dA_k)²)^(power/2).

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), dy_c/dA.
        power: above 1 for more contrast.

    Returns:
        maps: (M, h, w), ≥ 0; logit units per unit of activation to the ``power``.
    """
    return (gradients**2).sum(axis=1) ** (power / 2)


METHOD = Batched(
    title="Sensitivity",
    summary="the cells to which {target} reacts most, in whatever direction",
    paper="https://arxiv.org/abs/1312.6034",
    options={"power": Option(default=1.0, gt=0, le=4, description="exponent; above 1 for more contrast")},
    maps=sensitivity,
)
