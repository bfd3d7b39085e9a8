"""Finds the running system: what the environment names, else what `sluice up` wrote in this folder or one above."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.settings import runtime_settings
from ops.errors import UserError


class NotRunning(UserError):
    """Nothing runs here; the text says what to do."""


class HalfNamed(UserError):
    """The environment names only one engine: whoever set it means another system than the one in this folder."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where everything is; `services` as in the endpoints file, empty where others started them."""

    kafka: str
    database: str
    topic_prefix: str
    clock: str
    services: tuple[dict[str, Any], ...] = ()
    console: str = ""
    """The address of the console that runs with it, empty where none does."""
    monitor: str | None = None


def find_running() -> Running:
    """Return the running system; raises NotRunning, or HalfNamed or SettingsError when the environment is wrong."""
    kafka, database = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("DATABASE_URL")
    if kafka and database:
        runtime_settings(kafka, database)
        prefix, clock = os.environ.get("SLUICE_TOPIC_PREFIX", ""), os.environ.get("SLUICE_CLOCK") or "real"
        return Running(kafka, database, prefix, clock)
    if kafka or database:
        given, missing = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL")[:: 1 if kafka else -1]
        raise HalfNamed(
            f"{missing} is not set, but {given} is: set both, or neither for the system that runs in this folder."
        )
    for place in _places():
        if (found := _read(place / "run.json")) is not None:
            return found
    raise NotRunning(
        "Nothing is running here: start it with `sluice up`, or set KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL."
    )


def running_from(endpoints: dict[str, Any]) -> Running:
    """Return the system that endpoints describe, those of `sluice up`."""
    return Running(
        endpoints["kafka"],
        endpoints["database"],
        endpoints["topic_prefix"],
        endpoints["clock"],
        tuple(endpoints["services"]),
        endpoints.get("console", ""),
        endpoints.get("monitor"),
    )


def find_home() -> Path:
    """Return where a local run in this folder or one above keeps its things, or would if there is none."""
    places = _places()
    return next((place for place in places if place.is_dir()), places[0])


def _places() -> list[Path]:
    if home := os.environ.get("SLUICE_HOME"):
        return [Path(home)]
    here = Path.cwd()
    return [folder / ".sluice" for folder in (here, *here.parents)]


def _read(path: Path) -> Running | None:
    try:
        said = json.loads(path.read_text())
        return running_from(said) if is_alive(said) else None
    except (OSError, ValueError, KeyError):
        return None


def is_alive(endpoints: dict[str, Any]) -> bool:
    """Tell whether the run that wrote these endpoints goes on.

    A killed one leaves its file behind, and another process may have its number by now.
    """
    try:
        return bool(abs(psutil.Process(endpoints["pid"]).create_time() - endpoints["started"]) < 1)
    except psutil.NoSuchProcess:
        return False
