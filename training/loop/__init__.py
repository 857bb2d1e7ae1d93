"""One step, and what a run says while it goes."""
