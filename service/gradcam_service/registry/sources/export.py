"""The name that ``pt2`` had at first."""

from gradcam_service.registry.sources.pt2 import SOURCE as SOURCE
