"""Sampling of answers: prefill, decoding, continuous batching, and an interface for text."""
