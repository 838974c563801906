"""Files of anyone: read within bounds, written through no link, hashed, shown as text."""
