"""The two founding studies, one config a table."""
