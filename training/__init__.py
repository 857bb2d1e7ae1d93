"""Pretrains SoftCon backbones from sealed cubes, probes and exports them."""
