"""gradcam-service: what does this image model see, and where does it look?"""

import os
from importlib.metadata import version

__version__ = version("gradcam-service")

# ONNX Runtime reports to Microsoft from its import on, whoever imports it; its own function against that comes too late
# (https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
