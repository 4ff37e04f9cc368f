"""Apache Airflow provider for Popin live video shopping calls."""

from __future__ import annotations

__version__ = "0.1.0"
