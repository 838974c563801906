"""A model before it is loaded: where it is, adapters, GGUF files, its identity."""
