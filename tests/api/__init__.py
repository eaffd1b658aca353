"""The HTTP contract, against the running service."""
