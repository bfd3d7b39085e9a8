"""Creates the topics and migrates every service's schema, once, for those who start the services themselves."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from local.settings import LocalSettings, load_local_settings, runtime_settings
from local.topics import TopicError, create_topics, require_topics
from ops import acts
from ops.database import CANNOT_CONNECT, why_not_connected
from ops.errors import UserError
from ops.running import find_running
from ops.terminal import terminal
from services.closure.app import MIGRATIONS as CLOSURE_MIGRATIONS
from services.insight.app import MIGRATIONS as INSIGHT_MIGRATIONS
from services.maintenance.app import MIGRATIONS as MAINTENANCE_MIGRATIONS
from services.notify.app import MIGRATIONS as NOTIFY_MIGRATIONS
from services.runtime.app import MIGRATIONS as RUNTIME_MIGRATIONS
from services.runtime.database import MigrationError, migrate
from services.runtime.kafka import admin_options
from services.runtime.settings import SettingsError
from services.transfer.app import MIGRATIONS as TRANSFER_MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SERVICES: Final = {
    "transfer": TRANSFER_MIGRATIONS,
    "maintenance": MAINTENANCE_MIGRATIONS,
    "closure": CLOSURE_MIGRATIONS,
    "notify": NOTIFY_MIGRATIONS,
}
"""Every service with its migrations; its module is `services.<name>` and its schema its name."""

PROJECTIONS: Final = ("insight",)
"""Services that keep nothing but what the topics say: the one table they have says whether they are paused."""

WORKERS: Final = (*SERVICES, *PROJECTIONS)
"""Every service by name."""

SCHEMAS: Final[Mapping[str, Sequence[Path]]] = {
    **{name: (RUNTIME_MIGRATIONS, own) for name, own in SERVICES.items()},
    "insight": (INSIGHT_MIGRATIONS,),
    acts.SCHEMA: (acts.MIGRATIONS,),
}
"""Every schema with the folders of its migrations."""


class NotMigrated(UserError):
    """The tables could not be brought up to date; the text says why."""


async def set_up(settings: LocalSettings, bootstrap: str, dsn: str) -> None:
    """Make topics and tables ready; raises SettingsError, TopicError or NotMigrated."""
    runtime = runtime_settings(bootstrap, dsn)
    options = admin_options(runtime, "sluice.setup")
    if settings.create_topics:
        create_topics(
            options, runtime.topic_prefix, settings.partitions, replication_factor=settings.replication_factor
        )
    else:
        require_topics(options, runtime.topic_prefix)
    await _migrate(dsn)


async def _migrate(dsn: str) -> None:
    try:
        for schema, folders in SCHEMAS.items():
            await migrate(dsn, schema, folders)
    except MigrationError as error:
        raise NotMigrated(f"The tables cannot be migrated: {error}.") from error
    except CANNOT_CONNECT as error:
        raise NotMigrated(why_not_connected(error)) from error


def make_topics() -> None:
    """Create the topics that are missing on the running system's brokers."""
    settings, running = load_local_settings(), find_running()
    runtime = runtime_settings(running.kafka, running.database)
    create_topics(
        admin_options(runtime, "sluice.setup"),
        running.topic_prefix,
        settings.partitions,
        replication_factor=settings.replication_factor,
    )
    terminal().print(f"Every topic is there, with {settings.partitions} partitions.")


def make_tables() -> None:
    """Bring every service's schema up to date in the running system's database."""
    load_local_settings()
    asyncio.run(_migrate(find_running().database))
    terminal().print(f"The tables are up to date: {', '.join(SCHEMAS)}.")


def main() -> int:
    """Set up what the environment names; return the process's exit code."""
    try:
        settings = load_local_settings()
        if settings.bootstrap is None or settings.dsn is None:
            raise SettingsError("KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL must be set.")
        asyncio.run(set_up(settings, settings.bootstrap, settings.dsn.get_secret_value()))
    except (SettingsError, TopicError, NotMigrated) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
