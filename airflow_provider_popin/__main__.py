"""``python -m airflow_provider_popin``."""

from __future__ import annotations

import sys

from airflow_provider_popin.cli import main

if __name__ == "__main__":
    sys.exit(main())
