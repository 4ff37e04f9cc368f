#!/usr/bin/env bash
# Make the two virtual environments of the benchmark: the package with the http provider and matplotlib, and drt-core.
#
#   benchmarks/venv.sh BENCH_DIRECTORY DRT_DIRECTORY CONSTRAINTS PYTHON
#
# Uses uv when it is on the PATH, else Python's own venv and pip.
set -euo pipefail

bench=$1 drt=$2 constraints=$3 python=$4
here=benchmarks/requirements

bash scripts/venv.sh "$bench" "$constraints" "$python"
if command -v uv >/dev/null; then
    uv pip install --quiet --python "$bench/bin/python" --constraint "$constraints" --requirement $here/bench.txt
    [ -x "$drt/bin/python" ] || uv venv --quiet --python "$python" "$drt"
    uv pip install --quiet --python "$drt/bin/python" --requirement $here/drt.txt
else
    "$bench/bin/python" -m pip -qq --disable-pip-version-check install --constraint "$constraints" --requirement $here/bench.txt
    "$drt/bin/python" -m pip install --help >/dev/null 2>&1 || "$python" -m venv --clear "$drt"
    "$drt/bin/python" -m pip -qq --disable-pip-version-check install --requirement $here/drt.txt
fi
