"""The Earth Engine service on this machine: the same REST surface, two worlds behind it."""
