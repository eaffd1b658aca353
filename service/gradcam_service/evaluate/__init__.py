"""Is a map to be trusted? Protocols and metrics over a data set."""
