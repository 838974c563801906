"""The processes of one run; nothing here knows of a model."""
