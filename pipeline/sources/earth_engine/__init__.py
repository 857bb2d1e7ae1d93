"""Patches from Earth Engine."""
