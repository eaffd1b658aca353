"""Places as text, one "row column" a line, which are lit in a dark image of 128×128."""

import numpy as np
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.geometry import PreparedImage, Region
from gradcam_service.inputs import Input, Preparing, Received, Takes

SIDE = 128


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """The image of the places, for the model and to be drawn on."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for line in data.decode().splitlines():
        row, column = map(int, line.split())
        if not (0 <= row < SIDE and 0 <= column < SIDE):
            raise UnfitInput(f"there is no place {row} {column}; rows and columns are from 0 to {SIDE - 1}")
        image[row, column] = 255
    prepared = PreparedImage(image, Region(0, 0, SIDE, SIDE), (SIDE, SIDE))
    return Received({"image": image}, prepared, lambda: Image.fromarray(image))


INPUT = Input(("text/x-dots",), receive, size=lambda data: (SIDE, SIDE), endings=(".dots",))
