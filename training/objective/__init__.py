"""The similarity of labels and the losses."""
