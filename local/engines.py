"""The engines of a run: those that the environment names, else embedded ones."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from local.kafka import Kafka, start_kafka
from local.postgres import Postgres, start_postgres

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(slots=True)
class Engines:
    """Where Kafka and PostgreSQL are; `kafka` and `postgres` are None for those that are not ours."""

    bootstrap: str
    dsn: str
    kafka: Kafka | None
    postgres: Postgres | None

    def stop(self) -> None:
        """Stop those that are ours."""
        for engine in (self.kafka, self.postgres):
            if engine is not None:
                engine.stop()

    def __enter__(self) -> Self:
        """Return the engines."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop those that are ours."""
        self.stop()


def start_engines(
    data: Path, bootstrap: str | None, dsn: str | None, tell: Callable[[str], None] = lambda _: None
) -> Engines:
    """Start what is not given, with its data below a directory; on failure nothing is left running.

    Raises EngineError.
    """
    with ExitStack() as undo:
        kafka = postgres = None
        if bootstrap is None:
            tell("Kafka")
            kafka = undo.enter_context(start_kafka(data / "kafka"))
        if dsn is None:
            tell("PostgreSQL")
            postgres = undo.enter_context(start_postgres(data / "postgres"))
        undo.pop_all()
    return Engines(
        bootstrap or (kafka.bootstrap if kafka else ""), dsn or (postgres.dsn if postgres else ""), kafka, postgres
    )
