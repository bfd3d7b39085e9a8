"""What a local run can be told from the environment, besides what every worker can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.settings import RuntimeSettings, SettingsError, describe


class LocalSettings(BaseSettings):
    """Where a run keeps its things, which engines it uses, and how its topics are made."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    home: Annotated[Path, Field(validation_alias="SLUICE_HOME")] = Path(".sluice")
    bootstrap: Annotated[str | None, Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS")] = None
    dsn: Annotated[SecretStr | None, Field(validation_alias="DATABASE_URL")] = None
    partitions: Annotated[int, Field(validation_alias="SLUICE_PARTITIONS", ge=1, le=1000)] = 12
    replication_factor: Annotated[int, Field(validation_alias="SLUICE_REPLICATION_FACTOR", ge=1, le=10)] = 1
    create_topics: Annotated[bool, Field(validation_alias="SLUICE_CREATE_TOPICS")] = True
    shutdown_timeout_s: Annotated[float, Field(validation_alias="SLUICE_SHUTDOWN_TIMEOUT", gt=0, le=600)] = 20


def load_local_settings() -> LocalSettings:
    """Read the environment; SettingsError says in one sentence what is wrong."""
    try:
        return LocalSettings()
    except ValidationError as error:
        raise SettingsError(describe(error)) from None


def runtime_settings(bootstrap: str, dsn: str) -> RuntimeSettings:
    """Return what a worker's settings are with these engines; SettingsError for the first that is wrong."""
    try:
        return RuntimeSettings(kafka_bootstrap_servers=bootstrap, database_url=SecretStr(dsn))
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
