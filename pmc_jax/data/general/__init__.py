"""General questions with short answers, which do not depend on any other data."""
