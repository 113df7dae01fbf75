"""Host-side data: records, the sources that they are read from, and their encoding as token ids."""
