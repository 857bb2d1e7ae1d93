"""Encoders and the two branches."""
