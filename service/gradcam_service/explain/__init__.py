"""The science: networks cut in two, and the methods that explain them. Pure tensors; no I/O, no HTTP, no threads."""
