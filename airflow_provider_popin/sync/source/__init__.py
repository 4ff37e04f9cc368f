"""Rows of a CRM become leads. Knows neither the ledger nor the engine.

======================  ==========================================================================
``field_map``           the map from columns of the source to fields of a lead
``rows``                a row becomes a lead or a rejection with a reason
``cells``               one cell becomes a value: identity, priority, instants, hours
``unreadable``          a row that cannot even be read as columns and values
``fingerprints``        whether a rejected row was corrected
``booking_wish``        when a lead wants its call, and with whom: what is kept of a row
``watermark_settings``  what a Dag's author says about the watermark
``watermark_values``    which values of its column can be compared, and how they are kept
``source_name``         the name of a source, a part of every lead's identity
======================  ==========================================================================
"""
