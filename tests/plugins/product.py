"""A target that asks what two classes have in common: the product of their logits, ``{"product": [0, 1]}``."""

from dataclasses import dataclass
from typing import ClassVar

from gradcam_service.errors import BadOption
from gradcam_service.targets import TargetKind


@dataclass(frozen=True)
class Explained:
    """Two classes and the product of their logits."""

    labels: list[str]
    product: float


class Product(TargetKind):
    schema: ClassVar = {
        "type": "object",
        "properties": {"product": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}},
        "required": ["product"],
        "additionalProperties": False,
        "description": 'the product of two logits, {"product": [P, Q]}',
    }
    described = Explained

    def reads(self, written):
        return isinstance(written, dict) and "product" in written

    def checked(self, written, card):
        if len(written["product"]) != 2:
            raise BadOption("option 'target': a product is of two classes")
        return [card.class_index(index) for index in written["product"]]

    def objective(self, values, outputs):
        import torch

        pairs = torch.tensor(values, device=outputs.device)
        return lambda scores: scores.gather(1, pairs.expand(len(scores), 2)).prod(1)

    def describe(self, value, card, scores, probability, asked):
        return Explained([card.labels[index] for index in value], float(scores[value].prod()))

    def name(self, value, card):
        return " times ".join(card.labels[index] for index in value)


TARGET = Product()
