"""The embedded model: its documents, tokenizer, pre-training and card."""
