"""Weights that leave a run: files, layouts, cards."""
