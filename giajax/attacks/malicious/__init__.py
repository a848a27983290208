"""Attacks whose server alters what it sends."""
