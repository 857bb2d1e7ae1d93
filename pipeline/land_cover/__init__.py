"""From land-cover rasters to class fractions."""
