"""Host-side data: records, the sources they are read from, and their encoding as tokens."""
