"""Per-token losses, recorded for `trace` and `report`."""
