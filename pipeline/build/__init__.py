"""Filling a cube: batches, budget, imports and rebuilds."""
