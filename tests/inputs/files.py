"""Files of numbers, as instruments write them."""

import io

import numpy as np
import tifffile
from PIL import Image


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def geotiff(values):
    """Bands where they are on earth: pixels of 10 m, in UTM zone 32 north."""
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
    place = [(33550, "d", 3, (10, 10, 0)), (33922, "d", 6, (0, 0, 0, 5e5, 5.4e6, 0)), (34735, "H", len(keys), keys)]
    return tiff(values, photometric="minisblack", planarconfig="contig", compression="zlib", extratags=place)


def npy(values, **options):
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def smooth(shape, seed=0):
    """Numbers in 0 to 1 without symmetry that change slowly, as pictures do: (H, W) or (H, W, bands)."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    rng = np.random.default_rng(seed)
    bands = [
        0.5 + 0.3 * np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9) + phase) + 0.2 * (x > shape[1] * phase / 7)
        for phase in range(shape[2] if len(shape) == 3 else 1)
    ]
    return np.clip(np.stack(bands, axis=2).reshape(shape), 0, 1)


def of_16_bits(shape, seed=0):
    return np.round(smooth(shape, seed) * 65535).astype(np.uint16)
