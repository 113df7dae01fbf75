"""Files of a run: its folder, checkpoints, log and digests."""
