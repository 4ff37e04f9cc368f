"""A webhook's payload without the people in it. Pure."""
