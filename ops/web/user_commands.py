"""`sluice console user`: who may sign in to the console, and what each may do."""

from __future__ import annotations

import os
import secrets
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ops.running import find_home
from ops.terminal import terminal
from ops.web.settings import USERS_FILE
from ops.web.users import Role, UserFile

Name = Annotated[str, typer.Argument(help="What they sign in with; it stands in the log of acts.")]


def add(
    name: Name,
    role: Annotated[
        Role, typer.Option(help="A viewer reads; an operator acts, too; a reviewer decides on closings, too.")
    ] = Role.VIEWER,
    *,
    generate: Annotated[bool, typer.Option("--generate", help="Make a password, and print it once.")] = False,
) -> None:
    """Let somebody sign in, or give them another role or password; asks for the password, or reads it from a pipe."""
    users = _users()
    password = secrets.token_urlsafe(16) if generate else _password()
    users.put(name, role, password)
    out = terminal()
    out.print(f"{name} may sign in as {role}; sessions with an older password have ended.")
    if generate:
        out.print(f"The password is {password}", markup=False, soft_wrap=True)


def remove(name: Name) -> None:
    """Take somebody out; their sessions end at once."""
    _users().remove(name)
    terminal().print(f"{name} may not sign in any more.")


def ls() -> None:
    """Print who may sign in."""
    table = Table("name", "role", box=None, pad_edge=False)
    for user in _users().all():
        table.add_row(user.name, user.role)
    terminal().print(table)


def _users() -> UserFile:
    # Not by the console's settings: these name a key, which this command does not need.
    given = os.environ.get("SLUICE_CONSOLE_USERS")
    return UserFile(Path(given) if given else find_home() / USERS_FILE)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return getpass("Password: ")
