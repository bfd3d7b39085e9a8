"""What the closing service can be told from the environment, besides what every worker can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.closure.policy import DEFAULT_POLICY, Policy, read_policy
from services.runtime.checked_files import FileError
from services.runtime.personal_data import parse_master_key
from services.runtime.settings import SettingsError, checked_key, describe


class ClosureSettings(BaseSettings):
    """The keys and the policy file of the closing service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    master_key: Annotated[SecretStr, Field(validation_alias="SLUICE_MASTER_KEY")]
    name_key: Annotated[SecretStr, Field(validation_alias="SLUICE_NAME_KEY")]
    policy: Annotated[Path, Field(validation_alias="SLUICE_CLOSURE_POLICY")] = DEFAULT_POLICY

    @field_validator("master_key", "name_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        return checked_key(key)

    def key_bytes(self) -> tuple[bytes, bytes]:
        """Return the master key and the key of the hashes, 32 bytes each."""
        return (
            parse_master_key(self.master_key.get_secret_value()),
            parse_master_key(self.name_key.get_secret_value()),
        )


def load_closure() -> tuple[ClosureSettings, Policy]:
    """Read the environment and the policy file; SettingsError says in one sentence what is wrong."""
    try:
        settings = ClosureSettings()
        return settings, read_policy(settings.policy)
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
    except FileError as error:
        raise SettingsError(f"SLUICE_CLOSURE_POLICY: {error}.") from None
