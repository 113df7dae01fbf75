"""Sampling: prefill and decode on the device, continuous batching, and a text interface."""
