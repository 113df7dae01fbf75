"""Commands of the command line, one module per command, and the code that they share."""
