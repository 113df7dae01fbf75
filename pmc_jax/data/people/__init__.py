"""Generates fictitious people with planted facts, as question-answer rows."""
