"""Workdirs in object stores: a run works in a local folder, and is copied."""
