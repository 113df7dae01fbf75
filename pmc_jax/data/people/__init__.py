"""Generator of fictitious people with planted facts."""
