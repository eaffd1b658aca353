"""What most write first: FastAPI and pytorch-grad-cam, ResNet-50 of seed-0 weights, one request at a time.

Run: ``python naive.py PORT``; ``POST /explain`` takes a picture and answers with a PNG of it, the heat over it.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import Annotated

import numpy as np
import torch
import torchvision
import uvicorn
from fastapi import Body, FastAPI, Response
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

torch.manual_seed(0)
model = torchvision.models.resnet50().eval()
gradcam = GradCAM(model=model, target_layers=[model.layer4])
one_at_a_time = threading.Lock()  # the library keeps activations and gradients on its object
seen = Compose([Resize(256), CenterCrop(224)])
pixels = Compose([ToTensor(), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
app = FastAPI()


@app.post("/explain")
def explain(picture: Annotated[bytes, Body(media_type="image/jpeg")]) -> Response:
    """The picture with its heat."""
    crop = seen(Image.open(io.BytesIO(picture)).convert("RGB"))
    with one_at_a_time:
        (heat,) = gradcam(input_tensor=pixels(crop)[None], targets=None)
    png = io.BytesIO()
    overlay = show_cam_on_image(np.asarray(crop, np.float32) / 255, heat, use_rgb=True)
    Image.fromarray(overlay).save(png, "PNG")
    return Response(png.getvalue(), media_type="image/png")


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
