"""Creates the topics and migrates every service's schema, once, for those who start the services themselves."""

from __future__ import annotations

import asyncio
import sys

from local.settings import LocalSettings, load_local_settings, runtime_settings
from local.topics import TopicError, create_topics, require_topics
from services.runtime.app import MIGRATIONS as RUNTIME_MIGRATIONS
from services.runtime.database import MigrationError, migrate
from services.runtime.kafka import admin_options
from services.runtime.settings import SettingsError
from services.transfer.app import MIGRATIONS as TRANSFER_MIGRATIONS

SERVICES = {"transfer": TRANSFER_MIGRATIONS}
"""Every service with its migrations; its module is `services.<name>` and its schema its name."""


async def set_up(settings: LocalSettings, bootstrap: str, dsn: str) -> None:
    """Make topics and tables ready; raises SettingsError, TopicError or MigrationError."""
    runtime = runtime_settings(bootstrap, dsn)
    options = admin_options(runtime, "sluice.setup")
    if settings.create_topics:
        create_topics(
            options, runtime.topic_prefix, settings.partitions, replication_factor=settings.replication_factor
        )
    else:
        require_topics(options, runtime.topic_prefix)
    for name, migrations in SERVICES.items():
        await migrate(dsn, name, [RUNTIME_MIGRATIONS, migrations])


def main() -> int:
    """Set up what the environment names; return the process's exit code."""
    try:
        settings = load_local_settings()
        if settings.bootstrap is None or settings.dsn is None:
            raise SettingsError("KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL must be set.")
        asyncio.run(set_up(settings, settings.bootstrap, settings.dsn.get_secret_value()))
    except (SettingsError, TopicError, MigrationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
