"""What a careful team puts together: LitServe's dynamic batching and Captum's Grad-CAM, ResNet-50 of seed-0 weights.

Run: ``python batched.py PORT``; ``POST /predict`` takes ``{"image": …}``, a picture in base64, and answers with
``{"heatmap": …}``, a PNG of its heat likewise.
"""

from __future__ import annotations

import base64
import io
import sys

import litserve
import matplotlib as mpl
import numpy as np
import torch
import torchvision
from captum.attr import LayerGradCam
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor


class Explainer(litserve.LitAPI):
    """Grad-CAM of the most probable class, of as many pictures at once as are waiting."""

    def setup(self, device: str) -> None:
        """Make the model."""
        torch.manual_seed(0)
        self.model = torchvision.models.resnet50().eval().to(device)
        self.gradcam = LayerGradCam(self.model, self.model.layer4)
        normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.seen = Compose([Resize(256), CenterCrop(224), ToTensor(), normalize])
        self.colours = (mpl.colormaps["turbo"](np.arange(256))[:, :3] * 255).astype(np.uint8)

    def decode_request(self, request: dict[str, str]) -> Tensor:
        """A picture to pixels."""
        return self.seen(Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB"))

    def batch(self, inputs: list[Tensor]) -> Tensor:
        """Pixels to a batch of them."""
        return torch.stack(inputs)

    def predict(self, x: Tensor) -> Tensor:
        """Maps (N, 224, 224)."""
        with torch.no_grad():
            classes = self.model(x).argmax(1)
        maps = self.gradcam.attribute(x, target=classes, relu_attributions=True)
        return torch.nn.functional.interpolate(maps, size=(224, 224), mode="bilinear")[:, 0].detach()

    def unbatch(self, output: Tensor) -> list[Tensor]:
        """One map for each picture."""
        return list(output)

    def encode_response(self, output: Tensor) -> dict[str, str]:
        """A map to a PNG."""
        scaled = (output - output.min()) / (output.max() - output.min() + 1e-8)
        png = io.BytesIO()
        Image.fromarray(self.colours[(scaled.numpy() * 255).astype(np.uint8)]).save(png, "PNG")
        return {"heatmap": base64.b64encode(png.getvalue()).decode()}


if __name__ == "__main__":
    server = litserve.LitServer(Explainer(max_batch_size=8, batch_timeout=0.01), accelerator="cpu", timeout=120)
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
