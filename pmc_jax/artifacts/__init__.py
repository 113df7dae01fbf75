"""Files of a run: the run folder, checkpoints, the log, figures, digests and the manifest."""
