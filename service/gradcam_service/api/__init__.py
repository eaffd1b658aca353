"""HTTP, and nothing else: routes, schemas, problem responses. Torch-free."""
