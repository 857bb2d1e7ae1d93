"""Patches from the published SSL4EO-S12 folders."""
