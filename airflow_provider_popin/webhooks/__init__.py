"""What Popin tells by webhook, and what becomes of it in the ledger. No Airflow import.

Where to look, in the order in which a delivery passes:

==============  ======================================================================
``events``      ``CallEvent``, the one model of what Popin tells
``envelopes``   bytes of a delivery become a ``CallEvent``: three documented envelopes
``payloads``    a payload without the people in it
``inbox``       durable receipt: the thread that writes, and who waits for it
``deliveries``  many deliveries in one transaction, each body once
``matching``    which lead an event is about: exactly one, or nobody
``processing``  events move the ledger: evidence, alarms, outcomes; the outbox fills
``outbox``      asset events that wait to be emitted
``views``       what is shown of an event and of a lead
``queries``     what the page, Dags and the command line ask: doubts, unmatched events, alarms, one lead
``figures``     what the page counts: the funnel, rejections, slots, runs
``telling``     how calls ended, to the CRM: from where it left off
``admin``       what a person does: dismiss an event, clear an alarm
==============  ======================================================================

Receipt and processing are two steps on purpose: the answer to Popin depends on one durable insert only. What
was received is processed in the API server's background, and at the start and end of every lead sync, so that
evidence counts even where the API server died.
"""
