"""The network of the embedded model `scenes`."""

from gradcam_service.zoo.network import scenes_network

ARCHITECTURE = scenes_network
