"""Which lead gets which slot: ``planner`` knows leads and slots, ``matching`` only ints. Pure."""
