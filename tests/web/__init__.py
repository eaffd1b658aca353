"""The playground: its files over HTTP, and the page in a real browser."""
