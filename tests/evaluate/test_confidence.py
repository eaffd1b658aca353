"""Average drop, increase and gain: pytorch-grad-cam's, and numbers worked out by hand."""

import numpy as np
import torch
from lazily import Lazily

from gradcam_service.evaluate.metrics.confidence import drop, gain, increase, shown

package = Lazily("pytorch_grad_cam.metrics.cam_mult_image")

WHOLE, SEEN = np.array([0.8, 0.5, 0.2, 1.0]), np.array([0.6, 0.75, 0.2, 0.5])


def test_by_hand():
    np.testing.assert_allclose(drop(WHOLE, SEEN), [0.25, 0, 0, 0.5])
    assert increase(WHOLE, SEEN).tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(gain(WHOLE, SEEN), [0, 0.5, 0, 0])


def test_the_package_sees_the_same_and_loses_the_same():
    random = np.random.default_rng(0)
    images = random.normal(size=(8, 3, 10, 10)).astype(np.float32)
    maps = random.normal(size=(8, 10, 10)).astype(np.float32)
    maps = np.stack([(m - m.min()) / (m.max() - m.min()) for m in maps])  # as the package's maps are
    weights = torch.from_numpy(random.normal(size=images.shape[1:]).astype(np.float32)) / 10

    def model(pictures):
        return (pictures * weights).sum((1, 2, 3)).sigmoid()[:, None]

    given = torch.from_numpy(images), maps, [lambda output: output[0]] * 8, model
    whole = model(given[0])[:, 0].numpy()
    seen = model(torch.from_numpy(np.stack([shown(i, m) for i, m in zip(images, maps, strict=True)])))[:, 0].numpy()
    np.testing.assert_allclose(drop(whole, seen) * whole, package.DropInConfidence()(*given), atol=1e-6)
    assert increase(whole, seen).tolist() == package.IncreaseInConfidence()(*given).tolist()
    assert 0 < increase(whole, seen).sum() < 8


def test_a_constant_map_shows_everything():
    image = np.ones((3, 4, 4))
    assert np.array_equal(shown(image, np.zeros((4, 4))), image)
