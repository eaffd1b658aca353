"""The network of the embedded model `easy-vqa`."""

from gradcam_service.zoo.easy_vqa.network import vqa_network

ARCHITECTURE = vqa_network
