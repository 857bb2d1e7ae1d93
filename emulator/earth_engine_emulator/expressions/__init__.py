"""Earth Engine's expression graphs: decoded, checked against its algorithm list, evaluated."""
