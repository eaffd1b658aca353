"""The domain: a request (pictures, options) → results (predictions, maps, drawings). Torch-free and HTTP-free."""
