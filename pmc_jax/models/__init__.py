"""The decoder, one file for each model family, and checkpoints in and out."""
