"""Which lead gets which slot. Pure.

================  ===============================================================
``planner``       leads and slots become a plan
``matching``      the maximum number of leads, the earliest slots; knows only ints
``window_masks``  the slots that a window allows, as an int
================  ===============================================================
"""
