"""Finds the running system: what the environment names, else what `sluice up` wrote in this folder or one above."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotRunning(Exception):
    """Nothing runs here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where everything is; `services` as in the endpoints file."""

    kafka: str
    database: str
    topic_prefix: str
    clock: str
    services: list[dict[str, Any]]


def find_running() -> Running:
    """Return the running system; raises NotRunning."""
    kafka, database = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("DATABASE_URL")
    if kafka and database:
        prefix = os.environ.get("SLUICE_TOPIC_PREFIX", "")
        return Running(kafka, database, prefix, os.environ.get("SLUICE_CLOCK", "real"), [])
    for place in _places():
        if (found := _read(place / "run.json")) is not None:
            return found
    raise NotRunning(
        "Nothing is running here: start it with `sluice up`, or set KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL."
    )


def _places() -> list[Path]:
    if home := os.environ.get("SLUICE_HOME"):
        return [Path(home)]
    here = Path.cwd()
    return [folder / ".sluice" for folder in (here, *here.parents)]


def _read(path: Path) -> Running | None:
    try:
        said = json.loads(path.read_text())
        os.kill(said["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return Running(said["kafka"], said["database"], said["topic_prefix"], said["clock"], said["services"])
