"""Sweeps: one experiment per file, each over one key of its config."""
