"""The network of the embedded model `policy`."""

from gradcam_service.zoo.policy.network import policy_network

ARCHITECTURE = policy_network
