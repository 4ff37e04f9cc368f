"""The Popin hook.

==============  ========================================================================
``popin``       ``PopinHook``
``connection``  from an Airflow connection to the client's settings
``form``        the connection form for Airflow before 3.2
``ledger``      databases named by a connection: the ledger, the tables of leads
``masking``     what must not stand in a log, registered with Airflow's masker
==============  ========================================================================
"""
