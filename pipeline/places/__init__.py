"""Choosing places on Earth."""
