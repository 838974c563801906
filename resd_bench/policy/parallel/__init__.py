"""Where weights lie: on one device, copied (DDP) or sharded (FSDP)."""
