"""Sampling: prefill and decode on the device, the engine that keeps slots busy, text on both sides.
"""
