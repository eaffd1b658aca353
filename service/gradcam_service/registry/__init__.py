"""Models that exist, and how each is built."""
