"""Attacks that change candidates until their update matches."""
