"""The built-in methods: RESD, self-distillation, SFT-on-success, GRPO."""
