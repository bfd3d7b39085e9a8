"""The command `sluice`; what a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="sluice",
    help="Message-driven services over Kafka for a wallet and micro-lending platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
offsets = typer.Typer(help="What has been consumed, and gaps that wait for a person.", no_args_is_help=True)
app.add_typer(offsets, name="offsets")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, amounts in minor units.")]


@app.command()
def up(
    endpoints: Annotated[Path | None, typer.Option(help="Also write the endpoints to this file.")] = None,
    workers: Annotated[
        list[str] | None, typer.Option(help="Processes of a service, such as transfer=2; repeatable.")
    ] = None,
    movable_clock: Annotated[
        bool, typer.Option(help="Let a file move the clock of all processes: seconds to add, in .sluice/clock.")
    ] = False,
) -> None:
    """Start everything: engines, topics, tables, services and the sandbox bank."""
    from local.up import Plan, run

    run(Plan(endpoints, _counts(workers or []), movable_clock))


def _counts(words: list[str]) -> dict[str, int]:
    from local.setup import SERVICES

    counts = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in SERVICES or not number.isdecimal() or not 1 <= int(number) <= 64:
            known = ", ".join(SERVICES)
            raise typer.BadParameter(
                f"{word!r}: say NAME=COUNT with one of {known} and 1 to 64", param_hint="--workers"
            )
        counts[name] = int(number)
    return counts


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
) -> None:
    """Live through a day that reaches every outcome, told as it happens."""
    from local.demo import run

    run(keep=keep)


@app.command()
def replay(
    directory: Annotated[Path, typer.Argument(help="Folder with customers.csv, accounts.csv and transfers.csv.")],
    rate: Annotated[float | None, typer.Option(help="Transfers a second; without it, as fast as can be.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
) -> None:
    """Send a history through the system and check every balance."""
    from local.replay import run

    run(directory, rate, json)


@app.command()
def statement(
    wallet: Annotated[str, typer.Argument(help="Such as wallet:alice, platform:fees or bank:ICBC.")],
    since: Annotated[str | None, typer.Option(help="First moment, RFC 3339 or YYYY-MM-DD.")] = None,
    until: Annotated[str | None, typer.Option(help="Last moment.")] = None,
    at: Annotated[str | None, typer.Option(help="Only the balance at this moment.")] = None,
    limit: Annotated[int, typer.Option(help="The latest entries only.", min=1)] = 50,
    json: Json = False,
) -> None:
    """Show an account: its balance, and each movement with the balance after it."""
    from ops.ledger import show_statement

    show_statement(wallet, since, until, at, limit, as_json=json)


@app.command()
def transfer(
    transfer_id: Annotated[str, typer.Argument(help="The transfer's id, or a refund's.")], json: Json = False
) -> None:
    """Show a transfer: where it stands, each step with its time and reason, and what it moved."""
    from ops.ledger import show_transfer

    show_transfer(transfer_id, as_json=json)


@app.command()
def audit(json: Json = False) -> None:
    """Check that everything adds up; exit 1 and show the rows when it does not."""
    from ops.ledger import show_audit

    if not show_audit(as_json=json):
        sys.exit(1)


@offsets.command("show")
def offsets_show(json: Json = False) -> None:
    """Show how far each partition is, and gaps."""
    from ops.offsets import show

    show(as_json=json)


@offsets.command("accept")
def offsets_accept(
    service: Annotated[str, typer.Argument(help="Such as transfer.")],
    topic: Annotated[str, typer.Argument(help="Such as transfer.commands.")],
    partition: Annotated[int, typer.Argument(help="The partition's number.", min=0)],
) -> None:
    """Accept a gap: the partition goes on, and what is missing stays missing."""
    from ops.offsets import accept

    accept(service, topic, partition)


def main() -> None:
    """Run the command line; what a user can mend is one sentence, not a traceback."""
    try:
        app()
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(code)


def _exit_code(error: Exception) -> int | None:
    """Return 2 for what settings mend, 1 for what another try or an operator mends, None for a bug."""
    from local.daemon import EngineError
    from local.demo import DemoError
    from local.processes import Misconfigured
    from local.replay import ReplayError
    from local.topics import TopicError
    from local.up import AlreadyRunning, NotReady
    from ops.database import Unreachable
    from ops.ledger import NotFound
    from ops.offsets import NothingToAccept
    from ops.running import NotRunning
    from services.runtime.settings import SettingsError

    if isinstance(error, SettingsError | Misconfigured):
        return 2
    mendable = (
        EngineError,
        TopicError,
        AlreadyRunning,
        NotReady,
        NotRunning,
        ReplayError,
        DemoError,
        NotFound,
        NothingToAccept,
        Unreachable,
    )
    return 1 if isinstance(error, mendable) else None


if __name__ == "__main__":
    main()
