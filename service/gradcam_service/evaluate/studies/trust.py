"""Trust, Grad-CAM paper, section 4.3: of two models that say the same of a picture, which looks more reasonable?"""

from __future__ import annotations

import random

import numpy as np

from gradcam_service.core.options import PredictOptions
from gradcam_service.evaluate.drawing import drawn
from gradcam_service.evaluate.protocols import Figure
from gradcam_service.evaluate.sample import Sample
from gradcam_service.evaluate.studies import Asked, Question, Study
from gradcam_service.local import Local

_SCALE = {
    "Robot A seems clearly more reasonable": 2,
    "Robot A seems slightly more reasonable": 1,
    "Both seem equally reasonable": 0,
    "Robot B seems slightly more reasonable": -1,
    "Robot B seems clearly more reasonable": -2,
}


class Trust:
    """Asks which of two models is more reasonable.

    Args:
        first: what the score is in favour of.
        second: what it is compared with.
        side: most pixels of a picture's longest side.
    """

    def __init__(self, first: Local, second: Local, side: int) -> None:
        self._models = (first, second)
        self._side = side

    def suits(self, sample: Sample) -> bool:
        """Whether both models put the same class first, by its name, and it is there.

        Raises:
            ServiceError: the picture can't be predicted.
            OSError: or not be read.
        """
        data, (first, second) = sample.read(), self._models
        top = _top(first, data)
        names = first.model.card.labels
        return top in sample.labels and names[top] == second.model.card.labels[_top(second, data)]

    def ask(self, sample: Sample, method: str, lot: random.Random) -> Question:
        """A question; which model is robot A is by lot.

        Raises:
            ServiceError: the picture can't be explained.
            OSError: or not be read.
        """
        data, (first, second) = sample.read(), self._models
        is_a = lot.random() < 0.5
        robots = (first, second) if is_a else (second, first)
        maps = [drawn(robot, data, self._side, method) for robot in robots]
        label = first.model.card.labels[_top(first, data)]
        worth = {answer: float(value if is_a else -value) for answer, value in _SCALE.items()}
        pictures = [("The picture", drawn(first, data, self._side)), *zip(("Robot A", "Robot B"), maps, strict=True)]
        return Question(Asked(sample.name, method, label, worth), f"Both robots say: {label}.", pictures)


def _top(local: Local, data: bytes) -> int:
    """The class of the highest score."""
    return int(np.argmax(local.predict(data, PredictOptions(top_k=1)).scores))


STUDY = Study(
    title="Which robot do you trust?",
    offer="Which of two models looks more reasonable?",
    about="pictures of which both models say the same, and rightly,",
    asking=Trust,
    models=2,
    instruction=(
        "Two robots say what is in a picture, and both are right. A map of each shows what it looked at. Say which "
        "robot seems more reasonable. Who is A and who is B changes from picture to picture."
    ),
    summary=(
        "Pictures of which both models say the same, and rightly: by how much the first of them looks more reasonable, "
        "from −2 to 2, where 0 is no difference. Nobody was told which is which. The paper has 1.00 for guided "
        "backpropagation and 1.27 for Guided Grad-CAM, VGG-16 against AlexNet."
    ),
    figures={
        "score": Figure("the first model is more reasonable, −2 to 2", ""),
        "majority": Figure("pictures on which it is", ""),
    },
    value=float,
)
