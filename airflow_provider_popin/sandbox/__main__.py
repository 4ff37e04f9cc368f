"""A local Popin server with fault switches and an oracle: `python -m airflow_provider_popin.sandbox`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence

from airflow_provider_popin.sandbox.arguments import make_parser, settings_from
from airflow_provider_popin.sandbox.fault_kinds import ALIASES, KINDS


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the sandbox until SIGINT or SIGTERM.

    :param argv: arguments, None for those of the process.
    :return: exit code: 0, or 2 when an argument is unusable, the port not to be had, or the extra not
        installed.
    """
    arguments = make_parser(__doc__).parse_args(argv)
    if arguments.list_faults:
        print(fault_table())
        return 0
    try:
        from airflow_provider_popin.sandbox.runner import Runner
    except ModuleNotFoundError as error:
        remedy = "pip install 'airflow-provider-popin[sandbox]'"
        print(f"sandbox: {error.name} is not installed: {remedy}", file=sys.stderr)
        return 2
    try:
        runner = Runner(settings_from(arguments), access_log=arguments.access_log)
    except (ValueError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    try:
        port = runner.bind()
    except OSError as error:
        why = error.strerror or error
        print(f"sandbox: port {arguments.port} of {arguments.host} is not to be had: {why}", file=sys.stderr)
        return 2
    if arguments.access_log:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"Popin sandbox on http://{host}:{port} (what happened: /_sandbox/stats)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        runner.run()
    return 0


def fault_table() -> str:
    """All faults, one a line, with their VALUE's default and their endpoints."""
    lines = []
    for kind in KINDS.values():
        name = kind.name if kind.value is None else f"{kind.name}({kind.default})"
        lines.append(f"{name:<34} {kind.meaning} [{', '.join(kind.endpoints)}]")
    lines += [f"{alias:<34} same as {name}" for alias, name in ALIASES.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
