"""Operators for Popin."""
