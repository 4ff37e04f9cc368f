#!/usr/bin/env bash
# Make or update a virtual environment with the package (editable), its extras and the tools of development.
#
#   scripts/venv.sh DIRECTORY CONSTRAINTS PYTHON [MORE...]
#
# MORE are further arguments of the installer: requirements, and constraints of theirs.
# Uses uv when it is on the PATH, else Python's own venv and pip.
set -euo pipefail

directory=$1 constraints=$2 python=$3
shift 3
what='.[postgres,salesforce,sandbox]'

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    found=$("$python" --version 2>/dev/null || echo "not there")
    echo "error: Python 3.11 or newer is needed; '$python' is $found." >&2
    echo "       Name one: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi

started=$SECONDS
if command -v uv >/dev/null; then
    echo "Installing into $directory with uv ($constraints) ..."
    [ -x "$directory/bin/python" ] || uv venv --quiet --python "$python" "$directory"
    # Compiled now, or every process of a demo or a test compiles Airflow again where bytecode is not written.
    uv pip install --quiet --compile-bytecode --python "$directory/bin/python" --constraint "$constraints" \
        --editable "$what" --group dev "$@"
else
    echo "Installing into $directory with pip ($constraints); the first time takes a few minutes ..."
    # An interrupted start, uv, and a Debian without python3-venv leave environments without pip.
    if ! "$directory/bin/python" -m pip install --help >/dev/null 2>&1; then
        rm -rf "$directory"
        "$python" -m venv "$directory"
    fi
    pip=("$directory/bin/python" -m pip -qq --disable-pip-version-check install --constraint "$constraints")
    "${pip[@]}" --upgrade pip # older ones do not know dependency groups
    "${pip[@]}" --editable "$what" --group dev "$@"
fi
echo "Installed into $directory in $((SECONDS - started)) s."
