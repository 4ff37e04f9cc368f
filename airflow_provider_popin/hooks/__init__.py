"""The Popin hook."""
