"""What the insight service can be told from the environment, besides what every worker can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.insight.policy import DEFAULT_POLICY, Policy, read_policy
from services.runtime.checked_files import FileError
from services.runtime.settings import SettingsError, describe


class InsightSettings(BaseSettings):
    """The policy file of the insight service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    policy: Annotated[Path, Field(validation_alias="SLUICE_INSIGHT_POLICY")] = DEFAULT_POLICY


def load_insight() -> Policy:
    """Read the environment and the policy file; SettingsError says in one sentence what is wrong."""
    try:
        return read_policy(InsightSettings().policy)
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
    except FileError as error:
        raise SettingsError(f"SLUICE_INSIGHT_POLICY: {error}.") from None
