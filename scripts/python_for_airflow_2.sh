#!/usr/bin/env bash
# Print a Python that Airflow 2.11 runs on (3.11 or 3.12): the one given, else one on the PATH, else nothing.
set -euo pipefail

for candidate in "$1" python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
