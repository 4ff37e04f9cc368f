"""Popin's HTTP API: no Airflow import, no database.

Where to look:

===================  =====================================================================
``client``           one call at a time, with retries; what hooks and operators use
``protocol``         requests are built
``replies``          replies are read
``outcomes``         the one rule that says what an exchange means
``retrying``         when, and how long after, it is sent again
``errors``           what can go wrong, as exceptions
``models``           what goes to Popin and what comes back, as values
``exchange``         one HTTP exchange as data
``config``           how to reach an account: the checked settings
``limits``           how many requests a second
``requests_sender``  sends one at a time, blocking
``async_sender``     sends many at once, from an event loop
``connector``        the connections of that one: name, address, proxy, TLS
``http_connection``  one of them
``wire``             what senders know about bytes, and whose certificates they trust
``clock``            the clock of send deadlines
``leads``            the fields of a lead, cleaned
``phones``           phone numbers
``scalars``          cells of tables as plain values
``slots``            Popin's strings for times, and its list of free slots
``windows``          when a call may start
``redaction``        Popin's texts without the people in them
===================  =====================================================================
"""
