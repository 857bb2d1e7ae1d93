"""Pages about cubes and places."""
