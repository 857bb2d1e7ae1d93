"""The store of a cube, and everything derived from what it holds."""
