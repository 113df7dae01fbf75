"""Settings of all commands, which are checked before a command starts its work."""
