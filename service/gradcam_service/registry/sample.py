"""The sample of a model: a picture whose class is known, asked about before it answers anybody. Torch-free."""

from __future__ import annotations

import numpy as np

from gradcam_service.errors import ModelFailed, ServiceError
from gradcam_service.inputs import INPUTS
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.served import ServedModel
from gradcam_service.registry.spec import Sample


def checked_sample(model: ServedModel, sample: Sample, folder: ModelFolder, max_pixels: int) -> np.ndarray:
    """Predict a picture whose class is known; the picture as the model receives it.

    Raises:
        ModelFailed: the model takes it for something else.
    """
    try:
        data = folder.file("sample", sample.image).read_bytes()
        card = model.card
        received = INPUTS[card.input.reader].receive(data, card.input, card.preprocess, max_pixels)
        expected = model.card.class_index(sample.label)
    except ModelFailed:
        raise
    except OSError as error:
        raise ModelFailed(
            f"sample {sample.image} can't be read: {error.strerror}{folder.meant(sample.image)}"
        ) from error
    except ServiceError as error:
        raise ModelFailed(f"sample {sample.image}: {error.detail}") from error
    image = received.inputs["image"]
    scores = model.network.scores(*model.batch([{"image": image}]))
    found = int(model.network.of_classes(scores)[0].argmax())
    if found != expected:
        labels = model.card.labels
        raise ModelFailed(
            f"sample {sample.image} is {labels[expected]!r}, but the model takes it for {labels[found]!r}"
        )
    return image
