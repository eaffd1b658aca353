"""CAM: Zhou et al., CVPR 2016, https://arxiv.org/abs/1512.04150."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched, Need, arrays


def cam(features: Array, gradients: Array) -> Array:
    """Where the evidence for a target lies: M_c = ReLU(Σ_k w_ck A_k), w_c the class's row of the last linear layer.

    In front of global average pooling → linear, dy_c/dA_k is w_ck / Z in all Z places, so that w_ck is their sum; of a
    difference of classes that is the difference of their rows. The paper shows M_c itself; the ReLU is Grad-CAM's, so
    that Grad-CAM = CAM / Z on the same network.

    Args:
        features: (M, K, h, w), what is averaged and fed to the linear layer.
        gradients: (M, K, h, w), dy_c/dA.

    Returns:
        maps: (M, h, w), logit units times Z, ≥ 0.
    """
    return arrays(features).einsum("mk,mkhw->mhw", gradients.sum(axis=(2, 3)), features).clip(min=0)


METHOD = Batched(
    title="CAM",
    summary="evidence for {target}, read off the last layer's weights: Grad-CAM's ancestor",
    paper="https://arxiv.org/abs/1512.04150",
    needs={Need.LINEAR_HEAD, Need.LAYER_GRADIENT},
    maps=cam,
)
