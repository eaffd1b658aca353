"""LayerCAM: Jiang et al., IEEE TIP 2021, https://doi.org/10.1109/TIP.2021.3089943."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched


def layercam(features: Array, gradients: Array) -> Array:
    """Fine maps from shallow layers too: L_c = ReLU(Σ_k ReLU(dy_c/dA_k) ⊙ A_k), a weight of its own for each place.

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), dy_c/dA.

    Returns:
        maps: (M, h, w), logit units, ≥ 0.
    """
    return (gradients.clip(min=0) * features).sum(axis=1).clip(min=0)


METHOD = Batched(
    title="LayerCAM",
    summary="evidence for {target}, cell by cell; works at early layers too",
    paper="https://doi.org/10.1109/TIP.2021.3089943",
    maps=layercam,
)
