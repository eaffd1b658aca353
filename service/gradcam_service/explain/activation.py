"""Activations, which make probabilities of scores."""

from typing import Literal

from gradcam_service.explain.arrays import Array, arrays, softmax

Activation = Literal["softmax", "sigmoid", "none", "identity"]
"""Its name; ``none`` where scores are what they are, ``identity`` where they are values."""

UNCHANGED: frozenset[Activation] = frozenset({"none", "identity"})
"""Those that leave scores as the model gives them."""


def probabilities(scores: Array, activation: Activation, positions: int = 1, values: int = 0) -> Array:
    """Probabilities (N, classes) of scores (N, classes).

    Args:
        scores: logit units.
        activation: what makes probabilities of them.
        positions: of words, at how many each has a score; probabilities are of sum 1 at each.
        values: how many of the scores, the last, are values, which stay as they are.
    """
    if activation in UNCHANGED:
        return scores
    xp, classes = arrays(scores), scores.shape[1] - values
    logits = scores[:, :classes]
    if activation == "sigmoid":
        found = 1 / (1 + xp.exp(-logits.clip(min=-80)))  # below that float32 has no exp, and no smaller probability
    else:
        found = softmax(logits.reshape(len(scores), positions, -1), 2).reshape(len(scores), classes)
    return xp.concatenate([found, scores[:, classes:]], 1)
