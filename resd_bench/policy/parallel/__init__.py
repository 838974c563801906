"""Placement of weights: on one device, copied (DDP) or sharded (FSDP)."""
