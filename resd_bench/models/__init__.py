"""What a model is before it is loaded: where it lies, adapters, GGUF files, its identity."""
