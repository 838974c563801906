"""What a run will need: memory and model architecture, without loading weights."""
