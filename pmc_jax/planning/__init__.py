"""Plans of the memory and time that a run needs on a TPU slice, from its compiled programs."""
