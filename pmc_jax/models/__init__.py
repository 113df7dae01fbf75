"""The decoder, the model families, and the import and export of checkpoints."""
