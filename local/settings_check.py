"""Reads what every process of a run will read from the environment, before anything is started for it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from local.bank_behaviour import Behaviour
from local.behaviour import BehaviourFile
from local.settings import runtime_settings
from services.closure.settings import load_closure
from services.insight.settings import load_insight
from services.maintenance.settings import load_maintenance
from services.notify.settings import load_notify
from services.runtime.settings import SettingsError
from services.transfer.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local.settings import LocalSettings

_STAND_INS: Final = ("127.0.0.1:9092", "postgresql://127.0.0.1")
"""For the addresses of engines that are not started yet."""


def check_settings(settings: LocalSettings, keys: Mapping[str, str]) -> None:
    """Raise the SettingsError that a worker or the sandbox bank would end with; `keys` they get besides."""
    kafka, database = _STAND_INS
    with _environment(keys):
        runtime_settings(settings.bootstrap or kafka, settings.dsn.get_secret_value() if settings.dsn else database)
        for load in _LOADS.values():
            load()
        BehaviourFile(settings.home / "bank.json", Behaviour)


def wrong_settings(kafka: str, database: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Return what each service would end with, an empty text for one that would start; `keys` they get besides."""
    with _environment(keys):
        return {name: _said(kafka, database, load) for name, load in _LOADS.items()}


def _said(kafka: str, database: str, load: Callable[[], object]) -> str:
    try:
        runtime_settings(kafka, database)
        load()
    except SettingsError as error:
        return str(error)
    return ""


_LOADS: Final = {
    "transfer": load_settings,
    "maintenance": load_maintenance,
    "closure": load_closure,
    "notify": load_notify,
    "insight": load_insight,
}


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    # Settings are read from the process's own environment; the engines must not inherit the keys.
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
