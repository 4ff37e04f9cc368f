"""The command line: ``python -m airflow_provider_popin``, and ``airflow popin`` on Airflow 3.2 and newer.

Connections are read as Airflow reads them: from the environment, a secrets backend, or Airflow's database. So
the command needs the configuration (``AIRFLOW_HOME``, ``AIRFLOW__*``) of the deployment.

Exit codes: 0 all is well, 1 something is not (said in one line on stderr, or found by ``check``), 2 the
command was not written correctly. Results go to stdout, everything else to stderr.

Every ``airflow`` command imports this module, which therefore imports nothing that costs time.
"""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_popin.cli_commands import COMMANDS, GROUPS, SUMMARY, Command

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

PROGRAM = "python -m airflow_provider_popin"
OK, PROBLEM, USAGE = 0, 1, 2

Row = Mapping[str, object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    :param arguments: the words after the program's name; None takes them from the process.
    :return: the exit code.
    :raises SystemExit: with 2, after a line about correct use.
    """
    parsed = _parser().parse_args(arguments)
    return run(parsed.command, parsed)


def get_popin_cli_commands() -> list[CLICommand]:
    """Return the same commands for ``airflow popin``; Airflow 3.2 and newer ask for them."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    def action(command: Command) -> ActionCommand:
        args = [
            Arg(flags=(argument.flag,), **argument.options)  # type: ignore[no-untyped-call]
            for argument in command.arguments
        ]
        return ActionCommand(command.name, command.help, partial(_run_and_exit, command), args)

    alone = [action(command) for command in COMMANDS if command.group is None]
    groups = [
        GroupCommand(name, text, [action(command) for command in COMMANDS if command.group == name])
        for name, text in GROUPS.items()
    ]
    return [GroupCommand("popin", SUMMARY, [*alone, *groups])]


def run(command: Command, arguments: argparse.Namespace) -> int:
    """Do what a parsed command says, and print what comes of it.

    :param command: one of :data:`.cli_commands.COMMANDS`.
    :param arguments: its options.
    :return: the exit code.
    """
    # Airflow 3 lets only its own servers read connections from its database. This is how they, and its own
    # command `airflow connections`, say that they may.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    # Python has None for a stream that was closed before it began; Airflow writes to both.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    out = sys.stdout
    # Airflow logs to stdout, where it would spoil JSON; to that of the moment in which it is imported.
    with redirect_stdout(sys.stderr):
        from airflow_provider_popin import cli_actions
    try:
        with redirect_stdout(sys.stderr):
            cli_actions.check_text(arguments)
            outcome = getattr(cli_actions, command.action)(arguments)
            _print(outcome.rows, getattr(arguments, "output", "lines"), command.columns, out)
            out.flush()
    except BrokenPipeError:
        # The reader has seen enough. Without this, Python complains when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return PROBLEM
    except cli_actions.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except cli_actions.expected_errors() as error:
        text = cli_actions.explain(error, ledger_conn_id=arguments.ledger_conn_id)
        print(f"error: {text}", file=sys.stderr)
        return PROBLEM
    return OK if outcome.ok else PROBLEM


def _run_and_exit(command: Command, arguments: argparse.Namespace) -> None:
    sys.exit(run(command, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=SUMMARY)
    top = parser.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str | None, Any] = {None: top}
    for name, text in GROUPS.items():
        group = top.add_parser(name, help=text, description=text)
        groups[name] = group.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = groups[command.group].add_parser(command.name, help=command.help, description=command.help)
        for argument in command.arguments:
            one.add_argument(argument.flag, **argument.options)
        one.set_defaults(command=command)
    return parser


def _print(rows: Iterable[Row], output: str, columns: Sequence[str], out: TextIO) -> None:
    # An encoding may lack what a lead id holds; JSON has escapes for it.
    ascii_only = _encoding(out) != "utf-8"
    if output == "json":
        print(json.dumps(list(rows), ensure_ascii=ascii_only, indent=2), file=out)
    elif output == "lines":
        for row in rows:
            print(json.dumps(row, ensure_ascii=ascii_only), file=out)
    else:
        _print_table(list(rows), columns, out)


def _encoding(out: TextIO) -> str:
    return codecs.lookup(out.encoding or "utf-8").name


def _print_table(rows: Sequence[Row], columns: Sequence[str], out: TextIO) -> None:
    if not rows:
        print("(nothing)", file=out)
        return
    columns = columns or list(rows[0])
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    encoding = _encoding(out)
    for line in cells:
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        print(text.rstrip().encode(encoding, "backslashreplace").decode(encoding), file=out)


def _cell(value: object) -> str:
    """Write a value for a terminal, which must not obey what a lead id or a reason may hold."""
    if value is None:
        return "-"
    text = "yes" if value is True else "no" if value is False else str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
