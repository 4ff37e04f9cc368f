"""The lead sync engine: ledger, planner, engine, report. No Airflow import.

Where to look:

=================  =====================================================================
``ledger/``        what is known about every lead, and which steps it may take
``source/``        rows of a CRM become leads, or rejections with a reason
``planning/``      which lead gets which slot
``engine``         the run: read and capture, plan and book, write back, results
``watermark``      which part of the source a run reads: new, changed, unfinished
``session``        the part of it that talks to Popin and to the ledger
``admission``      what this run does with one row, given what the ledger knows
``exchange_loop``  the workers that send: permits, intent, POST, outcome
``report``         counts, thresholds, and what the task returns
``single``         one booking with the ledger's promise, for ``PopinScheduleOperator``
``admin``          what the command line does
=================  =====================================================================
"""
