"""Which models exist, and how each is built."""
