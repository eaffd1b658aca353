"""easy-VQA: questions about one drawn shape, of which the embedded model `easy-vqa` has seen none of the test part."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.datasets import Source
from gradcam_service.evaluate.sample import Collected, Mask, Sample, Thing
from gradcam_service.zoo.easy_vqa.dataset import mask


class EasyVqa:
    """See `gradcam_service.evaluate.datasets.Format`. A sample for each question, whose answer is the shape."""

    described = "the word easy-vqa: questions about drawn shapes, of the package easy-vqa"

    def reads(self, source: Source) -> bool:
        """The word, where no file is called so."""
        return source.data == "easy-vqa" and not source.path.exists()

    def collect(self, source: Source) -> Collected:
        """All questions of the test part.

        Raises:
            BadRequest: the package isn't there.
        """
        try:
            import easy_vqa
        except ModuleNotFoundError as error:
            raise BadRequest(
                "data set 'easy-vqa' is in the package easy-vqa; pip install easy-vqa brings it"
            ) from error
        paths, asked = easy_vqa.get_test_image_paths(), easy_vqa.get_test_questions()
        return Collected([_sample(Path(paths[picture]), *told) for *told, picture in zip(*asked, strict=True)])


def _sample(path: Path, question: str, answer: str) -> Sample:
    things = (Thing(answer, mask=partial(_shape, path)),)
    return Sample(f"{path.name}: {question}", path.read_bytes, things, question=question)


@lru_cache(64)
def _shape(path: Path) -> Mask:
    return mask(np.asarray(Image.open(path).convert("RGB")))


DATASET = EasyVqa()
