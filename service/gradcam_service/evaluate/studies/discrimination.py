"""Class discrimination, Grad-CAM paper, section 4.2: of two classes that are there, which does the map show?"""

from __future__ import annotations

import random

from gradcam_service.core.options import PredictOptions
from gradcam_service.evaluate.drawing import drawn
from gradcam_service.evaluate.protocols import Figure
from gradcam_service.evaluate.sample import Sample
from gradcam_service.evaluate.studies import Asked, Question, Study
from gradcam_service.local import Local


class Discrimination:
    """Asks which class a map shows.

    Args:
        local: the model.
        side: most pixels of a picture's longest side.
    """

    def __init__(self, local: Local, side: int) -> None:
        self._local = local
        self._side = side

    def suits(self, sample: Sample) -> bool:
        """Whether just two classes are there, which people can tell apart by their names.

        Raises:
            ServiceError: the picture can't be predicted.
            OSError: or not be read.
        """
        names = self._local.model.card.labels
        if not len(sample.labels) == 2 == len({names[label] for label in sample.labels}):
            return False
        self._local.predict(sample.read(), PredictOptions(top_k=1))
        return True

    def ask(self, sample: Sample, method: str, lot: random.Random) -> Question:
        """A question; the class whose map is shown, and which answer is the first, are by lot.

        As the class is drawn anew for each method, who has seen one of a picture's maps knows nothing of another's.

        Raises:
            ServiceError: the picture can't be explained.
            OSError: or not be read.
        """
        shown = lot.choice(sample.labels)
        picture = drawn(self._local, sample.read(), self._side, method, shown)
        names = self._local.model.card.labels
        worth = {names[label]: float(label == shown) for label in lot.sample(sample.labels, 2)}
        return Question(Asked(sample.name, method, names[shown], worth), "Which does this map show?", [("", picture)])


STUDY = Study(
    title="Which class is it?",
    offer="Which of the two classes of a picture does its map show?",
    about="pictures of just two classes",
    asking=Discrimination,
    instruction=(
        "Each map shows what an image classifier looked at to find one of two things that are in the picture. Say "
        "which of them it was looking for. If you can't tell, guess."
    ),
    summary=(
        "Pictures of exactly two classes: the share of answers that name the class whose map was shown. Whoever "
        "guesses has a half. The paper has 0.444 for guided backpropagation and 0.612 for Guided Grad-CAM, on VGG-16 "
        "and PASCAL VOC."
    ),
    figures={"right": Figure("right answers"), "majority": Figure("pictures that most name rightly")},
    value=bool,
)
