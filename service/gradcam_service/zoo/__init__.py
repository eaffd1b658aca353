"""The embedded models: the scenes they learn from, their training, their weights and their cards."""
