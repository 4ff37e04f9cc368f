"""The lead sync engine. No Airflow import.

Where to look:

===================  =====================================================================
``ledger/``          what is known about every lead, and which steps it may take
``source/``          rows of a CRM become leads, or rejections with a reason
``planning/``        which lead gets which slot
``settings``         what a run is asked to do
``engine``           the run: read and capture, plan and book, write back, results
``dry_run``          the same without doing anything
``reading``          the source, read once, in chunks
``spool``            what is remembered of each row, on disk
``watermark``        which part of the source a run reads: new, changed, unfinished
``admission``        what this run does with one row, given what the ledger knows
``intake``           rows are claimed, and captures handed to the workers
``session``          the part of the run that talks to Popin and to the ledger
``booking``          rounds of planning and sending
``calendar_keeper``  the free slots, kept fresh meanwhile
``jobs``             one POST to be sent, and what its outcome means for the ledger
``job_queue``        the queue from whoever finds work to the workers
``exchange_loop``    the workers that send: permits, intent, POST, outcome
``pacing``           keeps the workers out of step
``loop_thread``      the thread of the event loop
``stop_switch``      stops all of it in good order
``progress``         a line in the log every ten seconds
``results``          where every row ended
``report``           counts, thresholds, and what the task returns
``write_back``       the CRM is told what became of its leads
``single``           one booking with the ledger's promise, for ``PopinScheduleOperator``
``admin``            what people do with the ledger
``errors``           what can go wrong that is not Popin's
===================  =====================================================================
"""
