"""The lead sync engine: ledger, planner, engine, report. No Airflow import.

Where to look:

=================  =====================================================================
``states``         the state machine of a lead, as pure functions; start reading here
``transitions``    steps that several rules of it take
``evidence``       its rules for what webhooks prove, and for alarms
``schema``         the ledger's tables; those of webhooks are in ``event_tables``
``ledger``         the ledger: transactions, and events applied to rows
``database``       what makes its database durable, and what errors of it mean
``writer``         who writes in a run, and the group commit
``guards``         what must hold before the first POST, so that a lost ledger books nobody
``field_map``      the map from columns of the source to fields of a lead
``rows``           a source row becomes a lead or a rejection
``watermark``      which part of the source a run reads: new, changed, unfinished
``admission``      what this run does with one row, given what the ledger knows
``planner``        which lead gets which slot
``engine``         the run: read and capture, plan and book, write back, results
``exchange_loop``  the workers that send: permits, intent, POST, outcome
``report``         counts, thresholds, and what the task returns
``single``         one booking with the ledger's promise, for ``PopinScheduleOperator``
``admin``          what the command line does
=================  =====================================================================
"""
