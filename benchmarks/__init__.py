"""How fast the bulk job is, beside what one would do without it: ``make bench``."""
