"""What is true, computed without the service: torchvision's models and presets, Captum, plain autograd, NumPy."""

from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torchvision
from lazily import Lazily
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from gradcam_service.zoo.network import scenes_network

attr = Lazily("captum.attr")
SCENES_INPUT = 128
GREY = 128  # round(255 · 0.5), the mean colour of `scenes`


@cache
def network(name):
    """The model that the service has under this name."""
    if name == "scenes":
        module = scenes_network()
        module.load_state_dict(
            load_file(files("gradcam_service.zoo") / "models" / "scenes" / "1" / "weights.safetensors")
        )
        return module.eval()
    torch.manual_seed(0)
    return torchvision.models.get_model(name).eval()


def model_input(name, image):
    """(1, 3, H, W) float32: torchvision's preset for its models; for `scenes` padded to a grey square."""
    if name != "scenes":
        return torchvision.models.get_model_weights(name).DEFAULT.transforms()(image)[None]
    pixels = torch.from_numpy(np.array(padded(image))).permute(2, 0, 1)[None]
    return (pixels / 255 - 0.5) / 0.25


def padded(image):
    """The picture in the middle of the square that `scenes` sees."""
    scale = SCENES_INPUT / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", (SCENES_INPUT, SCENES_INPUT), (GREY, GREY, GREY))
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(small, ((SCENES_INPUT - width) // 2, (SCENES_INPUT - height) // 2))
    return square


@torch.no_grad()
def logits(name, image):
    """(classes,) float32."""
    return network(name)(model_input(name, image))[0].numpy()


def gradcam(name, image, target, layer):
    """Captum's Grad-CAM: (h, w) float32."""
    module = network(name)
    attribution = attr.LayerGradCam(module, module.get_submodule(layer))
    cam = attribution.attribute(model_input(name, image), target=target, relu_attributions=True)
    return cam[0, 0].detach().numpy()


def alexnet_gradcam(image, target):
    """Grad-CAM of AlexNet before its last pooling, by plain autograd through the rest of the network."""
    module = network("alexnet")
    with torch.no_grad():
        maps = module.features[:12](model_input("alexnet", image))
    maps.requires_grad_()
    head = nn.Sequential(module.features[12:], module.avgpool, nn.Flatten(), module.classifier)
    head(maps)[0, target].backward()
    weights = maps.grad.mean(dim=(2, 3), keepdim=True)
    return torch.relu((weights * maps).sum(dim=1))[0].detach().numpy()


def weighted_sums(image):
    """(classes, 7, 7): every class's Grad-CAM of ResNet-18 before the ReLU, α_ck = w_ck / Z."""
    module = network("resnet18")
    body = nn.Sequential(*list(module.children())[:-2])
    with torch.no_grad():
        maps = body(model_input("resnet18", image))[0]
        return torch.einsum("ck,khw->chw", module.fc.weight / maps[0].numel(), maps).numpy()


def levels(cam, region, size):
    """Heat (height, width) from 0 to 255 of a canvas of ``size``, and which of its pixels ``region`` covers.

    Each pixel whose centre lies in the region takes the map's value there, bilinear between the centres of the map's
    cells, constant beyond the outermost; what the pixels of the whole region take is scaled to 0 … 255.
    """
    columns, x = _along(region[0], region[2], cam.shape[1])
    rows, y = _along(region[1], region[3], cam.shape[0])
    heat = y @ cam.astype(np.float64) @ x.T
    heat = (heat - heat.min()) / np.ptp(heat) * 255
    canvas, covered = np.zeros(size[::-1]), np.zeros(size[::-1], dtype=bool)
    inside_x, inside_y = (columns >= 0) & (columns < size[0]), (rows >= 0) & (rows < size[1])
    where = np.ix_(rows[inside_y], columns[inside_x])
    canvas[where], covered[where] = heat[np.ix_(inside_y, inside_x)], True
    return canvas, covered


def _along(low, high, cells):
    """The pixels whose centres lie between ``low`` and ``high``, and each one's weights of the map's cells."""
    pixels = np.arange(np.ceil(low - 0.5), np.ceil(high - 0.5)).astype(int)
    places = (pixels + 0.5 - low) / (high - low) * cells - 0.5
    weights = np.stack([np.interp(places, np.arange(cells), unit) for unit in np.eye(cells)], axis=1)
    return pixels, weights
