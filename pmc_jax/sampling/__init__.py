"""Sampling: prefill and decode on the device, an engine of slots, text on both sides."""
