"""Triggers for Popin: they only ever GET."""
