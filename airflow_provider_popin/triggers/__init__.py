"""Triggers for Popin: they only ever GET.

===============  =======================================================================
``popin``        the trigger behind the deferrable sensor
``slots_open``   ``PopinSlotsOpenTrigger``, which starts Dags
``_looks``       its looks at the free slots, for ever
``_told_slots``  which slots it has told, and when
``_cursor``      where it keeps that
===============  =======================================================================
"""
