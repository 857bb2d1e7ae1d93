"""Where patches come from: one module per source."""
