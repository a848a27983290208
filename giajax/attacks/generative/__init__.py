"""Attacks that look for the images among those that a generator makes."""
