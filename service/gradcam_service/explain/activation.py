"""What makes probabilities of scores."""

from typing import Literal

Activation = Literal["softmax", "sigmoid", "none", "identity"]
"""Its name; ``none`` where scores are what they are, ``identity`` where they are values."""

UNCHANGED: frozenset[Activation] = frozenset({"none", "identity"})
"""Those that leave scores as the model gives them."""
