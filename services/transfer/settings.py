"""What the transfer service can be told from the environment, besides what every worker can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from services.runtime.checked_files import FileError
from services.runtime.settings import KeyedSettings, SettingsError, describe
from services.transfer.policy import DEFAULT_POLICY, Policy, read_policy


class TransferSettings(KeyedSettings):
    """The keys and the policy file of the transfer service."""

    policy: Annotated[Path, Field(validation_alias="SLUICE_POLICY")] = DEFAULT_POLICY


def load_settings() -> tuple[TransferSettings, Policy]:
    """Read the environment and the policy file; SettingsError says in one sentence what is wrong."""
    try:
        settings = TransferSettings()
        return settings, read_policy(settings.policy)
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
    except FileError as error:
        raise SettingsError(f"SLUICE_POLICY: {error}.") from None
