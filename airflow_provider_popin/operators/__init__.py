"""Operators for Popin.

======================  =====================================================================
``popin``               ``PopinCaptureOperator`` and ``PopinScheduleOperator``: one lead
``lead_sync``           ``PopinLeadSyncOperator``: all leads of a source
``outcomes``            ``PopinOutcomesOperator``: how calls ended goes back to the CRM
``booking``             one booking, with the ledger or without
``intent``              what protects it without one, against retries
``personal``            a lead's values in rendered fields and logs
``templated``           arguments at run time: typed, or the text that a template makes of them
``failures``            errors as Airflow should see them: retried or not, with a remedy
``_text_templates``     templates that give text in every Dag
``_arguments``          the lead sync's templated arguments that are no paths
``_watermark``          its arguments for the watermark
``_leads_from_sql``     its leads, from a query
``_leads_from_files``   from csv and jsonl files
``_leads_from_python``  from a sequence, another task or a function
``_postgres_times``     Postgres's times that Python has not
``_database_errors``    what a database says, as far as that quotes no lead
``_object_storage``     paths on local disk and object storage
``_results_file``       its results
``_write_back``         its word to the CRM
``_earlier_runs``       what Airflow knows of earlier tries, against a ledger that was lost
``_run_identity``       how the ledger names a task and its Dag run
``_lineage``            what OpenLineage is told
``_metrics``            what Airflow's metrics are told
======================  =====================================================================
"""
