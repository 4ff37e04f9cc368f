"""What is known about every lead, and which steps it may take: the reason why nobody is booked twice.

=====================  ======================================================================
``states``             the state machine of a lead, as pure functions; start reading here
``events``             what is kept of a lead, and what may happen to it
``transitions``        steps that several rules of the state machine take
``evidence``           its rules for what webhooks prove, and for alarms
``schema``             the tables, made and upgraded
``event_tables``       the tables of what webhooks tell
``tables``             what both have in common
``database``           what makes its database durable, and what errors of it mean
``ledger``             transactions, and events applied to rows
``record_sql``         reading and writing many records at once, in the driver's own words
``new_leads``          adding many leads at once, likewise
``ledger_queries``     what others ask of it about leads
``leases``             who holds which leads, and what is cleared up after runs that are gone
``run_log``            runs, their reports, the sequence number
``writer``             who writes in a run, and the group commit
``ledger_thread``      the thread that it writes in
``known_records``      what a run wrote last, which it need not read again
``guards``             what must hold before the first POST, so that a lost ledger books nobody
``watermark_store``    up to where each task has read its source
``forgetting``         a lead is forgotten, with all that was told about it
=====================  ======================================================================
"""
