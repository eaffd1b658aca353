"""Who computes feature maps: the part of every answer that takes the time and needs no gradient."""
