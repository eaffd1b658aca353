"""Places as text, one "row column" a line, which are lit in a dark image of 24×32."""

import numpy as np
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.geometry import PreparedImage, Region
from gradcam_service.inputs import Input, Preparing, Received, Takes

HEIGHT, WIDTH = 24, 32


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """The image of the places, as it is and as a picture."""
    image = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    for line in data.decode().splitlines():
        row, column = map(int, line.split())
        if row >= HEIGHT or column >= WIDTH:
            raise UnfitInput(f"there is no place {row} {column}; rows are below {HEIGHT}, columns below {WIDTH}")
        image[row, column] = 255
    shown = np.repeat(image, 3, axis=2)
    prepared = PreparedImage(shown, Region(0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT))
    return Received({"image": image}, prepared, lambda: Image.fromarray(shown))


INPUT = Input(("text/x-dots",), receive, size=lambda data: (WIDTH, HEIGHT))
