"""The Airflow plugin: webhooks in, asset events out, and a page in Airflow's UI. Airflow 3 only.

Where to look:

================  =====================================================================
``popin``         the plugin itself; every Airflow process imports it, so it costs nothing
``receiver``      ``POST /popin/webhooks/<connection id>``: what is answered, and when
``bodies``        a request's body, within its limits of size and time
``admission``     who may deliver: keys, guesses, and connections read now and then
``connections``   Airflow connections as the API server reads them
``ledgers``       the ledgers that are open in this process
``background``    the thread that processes what was delivered
``outbox``        asset events, from the ledger to Airflow
``asset_events``  the one call into Airflow's inside
``page``          the page in Airflow's UI
================  =====================================================================

On Airflow 2.11 there is no API server to mount anything in: the plugin is empty there.
"""
