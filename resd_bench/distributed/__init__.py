"""The processes of one run; no model here."""
