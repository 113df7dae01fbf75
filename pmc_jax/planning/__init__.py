"""Resource plans for TPU slices, from compiled programs and bounds on their time."""
