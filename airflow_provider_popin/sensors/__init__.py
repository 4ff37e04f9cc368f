"""Sensors for Popin."""
