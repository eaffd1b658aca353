"""gradcam-service: what does this image model see, and where does it look?"""

from importlib.metadata import version

__version__ = version("gradcam-service")
