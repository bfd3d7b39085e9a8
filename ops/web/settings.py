"""What the console can be told from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.secrets import CONSOLE_KEY, kept_keys
from ops.running import find_home
from services.runtime.personal_data import parse_master_key
from services.runtime.settings import SettingsError, checked_key, describe

USERS_FILE: Final = "console_users.json"


class ConsoleSettings(BaseSettings):
    """Where the console listens, by what address people reach it, who may sign in, and the key that it signs with."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    host: Annotated[str, Field(validation_alias="SLUICE_CONSOLE_HOST")] = "127.0.0.1"
    port: Annotated[int, Field(validation_alias="SLUICE_CONSOLE_PORT", ge=0, le=65_535)] = 8600
    url: Annotated[str, Field(validation_alias="SLUICE_CONSOLE_URL", pattern=r"^(https?://[^/\s]+)?$")] = ""
    users: Annotated[Path | None, Field(validation_alias="SLUICE_CONSOLE_USERS")] = None
    key: Annotated[SecretStr, Field(validation_alias="SLUICE_CONSOLE_KEY")]

    @field_validator("key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        return checked_key(key)

    @property
    def is_behind_https(self) -> bool:
        """Whether browsers reach it by https, so that cookies need never leave in the clear."""
        return self.url.startswith("https://")

    @property
    def users_file(self) -> Path:
        """The file with those who may sign in; beside the local run's data where the environment names none."""
        return self.users or find_home() / USERS_FILE

    def signing_key(self) -> bytes:
        """Return the key's 32 bytes."""
        return parse_master_key(self.key.get_secret_value())


def load_console() -> ConsoleSettings:
    """Read the environment, and the key that `sluice up` keeps; SettingsError says in one sentence what is wrong."""
    kept: dict[str, Any] = {}
    if not os.environ.get(CONSOLE_KEY) and (key := kept_keys(find_home()).get(CONSOLE_KEY)):
        kept[CONSOLE_KEY] = key
    try:
        return ConsoleSettings(**kept)
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
