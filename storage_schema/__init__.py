"""The contract of the cube: products, land cover, layout, conformance. It imports no other room."""
