"""The decoder, one file per model family, and reading and writing of checkpoints."""
