"""The command `sluice`: a table of commands, each imported only when it is asked for, so that help is quick."""

from __future__ import annotations

import re
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ops.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import typer

_HELP: Final = "Message-driven services over Kafka for a wallet and micro-lending platform."

GROUPS: Final = {
    "offsets": "What has been consumed, and gaps that wait for a person.",
    "dlq": "Dead letters: look at them, replay them once, or set them aside.",
    "topics": "The topics of the contract.",
    "windows": "Maintenance windows: past, current and to come; plan, move and end them.",
    "cases": "Closings of wallets and loans: where each stands and why; decide on one that waits for a person.",
    "clearance": "Clearances of many wallets: how far each is, its money, what it cannot end; begin and pause them.",
    "console": "Serve the console: pages for the people on call, and public ones for customers.",
    "console user": "Who may sign in to the console, and what each may do.",
}
"""What the words before a command's last are about."""

BY_ITSELF: Final = {
    "windows": "ops.windows:show",
    "cases": "ops.cases:show",
    "clearance": "ops.clearances:show",
    "console": "ops.web.serving:show",
}
"""What such words do when no other follows; the function looks whether one does."""

ABOUT: Final = {"cases": "--case", "clearance": "--clearance"}
"""The option that an id which stands alone after such a first word is for."""

_TAKE_IDS: Final = {*ABOUT.values(), "--clearance"}
"""The options after which an id does not stand alone."""

_METAVARS: Final = {"cases": "[CASE_ID | COMMAND [ARGS]...]", "clearance": "[CLEARANCE_ID | COMMAND [ARGS]...]"}

COMMANDS: Final = {
    "up": ("local.up:up", "Start everything: engines, topics, tables, services and sandboxes."),
    "demo": ("local.demo:run", "Live through two weeks that reach every outcome, told as it happens."),
    "replay": ("local.replay:run", "Send a history through the system and check every balance."),
    "statement": ("ops.ledger:show_statement", "Show an account: its balance, and each movement."),
    "transfer": ("ops.ledger:show_transfer", "Show a transfer: where it stands, each step, and what it moved."),
    "trace": ("ops.trace.show:show", "Show everything that happened to one thing, across services, in time order."),
    "notices": ("ops.notices:show", "Show what became of everything that people were to be told."),
    "audit": ("ops.ledger:show_audit", "Check that everything adds up; exit 1 if not, 2 if it could not look."),
    "windows plan": ("ops.windows:plan", "Plan a window; one that starts now is an emergency."),
    "windows reschedule": ("ops.windows:reschedule", "Move a window that is not over."),
    "windows start": ("ops.windows:start", "Start a planned window at once."),
    "windows extend": ("ops.windows:extend", "Let a window that has started end later."),
    "windows end": ("ops.windows:end", "End a window that has started."),
    "windows cancel": ("ops.windows:cancel", "Call off a window that has not started."),
    "cases approve": ("ops.cases:approve", "Approve a case that is in review."),
    "cases reject": ("ops.cases:reject", "Reject a case that is in review."),
    "clearance start": ("ops.clearances:start", "Begin a clearance, after a dry run of it."),
    "clearance pause": ("ops.clearances:pause", "Have a clearance begin no more cases."),
    "clearance resume": ("ops.clearances:resume", "Go on with a clearance that is paused."),
    "lag": ("ops.lag.show:show", "Show which consumers keep up, in records and in seconds, and why not."),
    "monitor": ("ops.monitor.serving:monitor", "Serve every group's lag and the system's state to Prometheus."),
    "doctor": ("ops.doctor.command:examine", "Check all that the services stand on, and say what to do."),
    "pause": ("ops.pausing:pause", "Have a service take nothing until it is resumed."),
    "resume": ("ops.pausing:resume", "Have a paused service go on."),
    "offsets show": ("ops.offsets:show", "Show how far each partition is, and gaps."),
    "offsets accept": ("ops.offsets:accept", "Accept a gap: the partition goes on, and what is missing stays missing."),
    "dlq ls": ("ops.dlq.commands:list_letters", "Show records that could not be taken, and why."),
    "dlq show": ("ops.dlq.commands:show_letter", "Show one dead letter: why, its headers, and what was sent."),
    "dlq export": ("ops.dlq.commands:export", "Write dead letters to a file, to be mended."),
    "dlq replay": ("ops.dlq.commands:replay", "Write dead letters to where they came from, each once."),
    "dlq discard": ("ops.dlq.commands:discard", "Set dead letters aside."),
    "acts": ("ops.acts:show", "Show what people on call did, to what, and why."),
    "console user add": ("ops.web.user_commands:add", "Let somebody sign in, or give them another role or password."),
    "console user remove": ("ops.web.user_commands:remove", "Take somebody out; their sessions end at once."),
    "console user ls": ("ops.web.user_commands:ls", "Print who may sign in."),
    "follow": ("ops.web.follow_command:link", "Make a link by which a customer follows a transfer or closing."),
    "topics create": ("local.setup:make_topics", "Create the topics that are missing."),
    "topics grow": ("ops.topics:grow", "Let every topic have more partitions, once nothing is under way."),
    "topics settle": ("ops.topics:settle", "Have every topic kept as the contract says."),
    "migrate": ("local.setup:make_tables", "Bring every service's tables up to date."),
}  # fmt: skip
"""Each command's words, the function that is it (its parameters are the command's), and what help says of it."""


def build(words: Sequence[str]) -> typer.Typer:
    """Return the command line in which the command that `words` begin with is loaded, and the others only listed."""
    # Here, so that Ctrl-C while it is imported finds somebody who minds it.
    import typer

    options: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
    app = typer.Typer(name="sluice", help=_HELP, **options)
    groups = {
        name: typer.Typer(help=text, no_args_is_help=name not in BY_ITSELF, subcommand_metavar=_METAVARS.get(name))
        for name, text in GROUPS.items()
    }
    for name, place in BY_ITSELF.items():
        function = _load(place) if name in words[:1] else _listed
        groups[name].callback(invoke_without_command=True)(function)
    for command, (place, text) in COMMANDS.items():
        group, _, name = command.rpartition(" ")
        is_asked_for = command.split() == list(words[: command.count(" ") + 1])
        function = _load(place) if is_asked_for else _listed
        (groups[group] if group else app).command(name, help=text)(function)
    for names, group_app in groups.items():
        group, _, name = names.rpartition(" ")
        (groups[group] if group else app).add_typer(group_app, name=name)
    return app


def name_ids(words: Sequence[str]) -> list[str]:
    """Return the words with its option's name before an id that stands alone."""
    first, *others = words or [""]
    option = ABOUT.get(first)
    if option is None or not others or f"{first} {others[0]}" in COMMANDS:
        return list(words)
    for place, word in enumerate(others):
        is_named = place > 0 and others[place - 1] in _TAKE_IDS
        if not is_named and (_ID.fullmatch(word) or (place == 0 and not word.startswith("-"))):
            return [first, *others[:place], option, *others[place:]]
    return list(words)


_ID: Final = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def _load(place: str) -> Callable[..., object]:
    module, _, name = place.partition(":")
    function: Callable[..., object] = getattr(import_module(module), name)
    return function


def _listed() -> None:
    raise AssertionError("a command that is only listed was run")


def main() -> None:
    """Run the command line; what a person can mend is one sentence, not a traceback.

    Exit codes: 0 done, 1 the answer is no, 2 it could not be done or asked, 130 interrupted.
    """
    try:
        words = name_ids(sys.argv[1:])
        build(words)(words)
    except KeyboardInterrupt:
        sys.exit(130)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - a bug is shown whole, but must not look like the answer no
        sys.stderr.write(f"{error}\n" if _is_about_a_setting(error) else traceback.format_exc())
        sys.exit(2)


def _is_about_a_setting(error: Exception) -> bool:
    # Below the command line in the layers: the services' errors are not its own.
    from services.runtime.settings import SettingsError

    return isinstance(error, SettingsError)


if __name__ == "__main__":
    main()
