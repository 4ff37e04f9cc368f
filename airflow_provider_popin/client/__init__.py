"""Popin's HTTP API: no Airflow import, no database."""
