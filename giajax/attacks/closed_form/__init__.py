"""Attacks that solve for the images, step by step or at once."""
