"""Resource plans for TPU slices: compiles a run's programs, analyses them and bounds their time."""
