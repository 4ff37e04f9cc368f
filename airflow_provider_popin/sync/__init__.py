"""The lead sync engine: ledger, planner, engine, report. No Airflow import."""
