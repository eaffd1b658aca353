"""Metrics of maps, one file each: arrays in, numbers out, torch imported nowhere.

Pictures are as the network receives them, (C, H, W) float32, so that zero is the mean colour, and maps are as large as
their picture, (H, W). What a metric needs of the network comes through `Value`; how that is batched, and where it
runs, is its caller's affair.
"""
