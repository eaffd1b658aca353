"""Eigen-CAM: Muhammad & Yeasin, IJCNN 2020, https://arxiv.org/abs/2008.00299."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched, Need, arrays


def eigencam(features: Array, gradients: Array = None) -> Array:
    """What stands out whatever the target: the feature maps projected on their first principal component.

    The (h·w, K) matrix of feature vectors, centred, is decomposed as U S Vᵀ; the map is its product with the first
    column of V. A singular vector's sign is arbitrary: the one is taken under which the map rises with the mean
    activation. Where that is the same everywhere, as after a LayerNorm with the weights it starts with, it is the one
    under which few places stand out high rather than low (a positive third moment).

    Args:
        features: (M, K, h, w), the feature maps.
        gradients: not used.

    Returns:
        maps: (M, h, w) after a ReLU, units of activation.
    """
    xp, (rows, channels, h, w) = arrays(features), features.shape
    vectors = xp.asarray(features.reshape(rows, channels, h * w).swapaxes(1, 2), dtype=xp.float32)
    finite = xp.isfinite(vectors).reshape(rows, -1).all(axis=1)[:, None]
    vectors = xp.where(finite[:, :, None], vectors, 0.0)  # others have no components, and must not stop these
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    _, _, components = xp.linalg.svd(centred, full_matrices=False)
    projected = xp.einsum("mpk,mk->mp", centred, components[:, 0])
    means, scale = centred.mean(axis=2), xp.amax(abs(centred), axis=(1, 2))
    level = xp.amax(abs(means), axis=1) < 1e-5 * scale  # what is left of the means is float32 rounding
    rising = xp.where(level[:, None], projected * projected, means)
    agreement = (projected * rising).sum(axis=1, keepdims=True)
    signed = xp.where(agreement < 0, -projected, projected)
    return xp.where(finite, signed.clip(min=0), xp.nan).reshape(rows, h, w)


METHOD = Batched(
    title="Eigen-CAM",
    summary="what stands out to the network, whatever the class",
    paper="https://arxiv.org/abs/2008.00299",
    needs={Need.FEATURES},
    maps=eigencam,
)
