"""Generated fictitious people."""
