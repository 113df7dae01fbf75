"""Decoder, supported model families, and import and export of checkpoints."""
