"""Which lead an event is about: exactly one, or nobody. Pure."""
