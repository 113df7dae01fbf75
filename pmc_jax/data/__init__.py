"""Data on the host: record types, readers of files and data sets, and encoding as token ids."""
