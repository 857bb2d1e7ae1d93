"""Data production: places, acquisitions, pixels and class fractions, written into the cube."""
