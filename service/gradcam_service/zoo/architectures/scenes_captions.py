"""The network of the embedded model `scenes-captions`."""

from gradcam_service.zoo.scenes_captions.network import captions_network

ARCHITECTURE = captions_network
