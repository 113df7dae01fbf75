"""What a run takes on a TPU slice: its programs compiled, taken apart and bounded in time."""
