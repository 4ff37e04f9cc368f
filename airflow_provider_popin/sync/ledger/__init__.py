"""What is known about every lead, and which steps it may take: the reason why nobody is booked twice.

=====================  ======================================================================
``states``             the state machine of a lead, as pure functions; start reading here
``events``             what is kept of a lead, and what may happen to it
``transitions``        steps that several rules of the state machine take
``evidence``           its rules for what webhooks prove, and for alarms
``schema``             the tables; those of webhooks are in ``event_tables``
``ledger``             transactions, and events applied to rows; the SQL is in ``record_sql``
``ledger_queries``     what others ask of it
``database``           what makes its database durable, and what errors of it mean
``writer``             who writes in a run, and the group commit
``guards``             what must hold before the first POST, so that a lost ledger books nobody
``watermark_store``    up to where each task has read its source
``forgetting``         a lead is forgotten, with all that was told about it
=====================  ======================================================================
"""
