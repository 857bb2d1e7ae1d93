"""Charts, pictures and pages: SVG and HTML that stand alone, for cubes, runs and demos alike."""
