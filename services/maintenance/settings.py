"""What the maintenance service can be told from the environment, besides what every worker can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.maintenance.policy import DEFAULT_POLICY, Policy, read_policy
from services.runtime.checked_files import FileError
from services.runtime.settings import SettingsError, describe


class MaintenanceSettings(BaseSettings):
    """The policy file of the maintenance service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    policy: Annotated[Path, Field(validation_alias="SLUICE_MAINTENANCE_POLICY")] = DEFAULT_POLICY


def load_maintenance() -> Policy:
    """Read the environment and the policy file; SettingsError says in one sentence what is wrong."""
    try:
        return read_policy(MaintenanceSettings().policy)
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
    except FileError as error:
        raise SettingsError(f"SLUICE_MAINTENANCE_POLICY: {error}.") from None
