"""Sampling: prefill and decode on the device, an engine that keeps slots busy, text at both ends."""
