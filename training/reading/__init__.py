"""From cubes to batches of views."""
