"""What the notifier can be told from the environment, besides what every worker can."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.reasons import REASONS
from services.notify.companion import Outside
from services.notify.decide import Rules
from services.notify.gateways.config import DEFAULT_GATEWAYS, read_gateways
from services.notify.model import Locale, Role
from services.notify.policy import DEFAULT_POLICY, read_policy
from services.notify.wording import DEFAULT_WORDING, WordingError, read_wording
from services.runtime.checked_files import FileError
from services.runtime.personal_data import parse_master_key
from services.runtime.settings import SettingsError, checked_key, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.notify.wording import Wording

_Read = TypeVar("_Read")


class NotifySettings(BaseSettings):
    """The files with the notifier's policy, words and gateways, its key, and where it listens for the outside."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    master_key: Annotated[SecretStr, Field(validation_alias="SLUICE_MASTER_KEY")]
    policy: Annotated[Path, Field(validation_alias="SLUICE_NOTIFY_POLICY")] = DEFAULT_POLICY
    wording: Annotated[Path, Field(validation_alias="SLUICE_WORDING")] = DEFAULT_WORDING
    gateways: Annotated[Path, Field(validation_alias="SLUICE_GATEWAYS")] = DEFAULT_GATEWAYS
    public_host: Annotated[str, Field(validation_alias="SLUICE_PUBLIC_HOST")] = "127.0.0.1"
    public_url: Annotated[
        str, Field(validation_alias="SLUICE_PUBLIC_URL", pattern=r"^(https?://[^/\s]+[^\s]*[^/\s])?$")
    ] = ""
    public_port: Annotated[int, Field(validation_alias="SLUICE_PUBLIC_PORT", ge=0, le=65_535)] = 0

    @field_validator("master_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        return checked_key(key)


def load_notify() -> tuple[Rules, Outside]:
    """Read the environment and the files it names; SettingsError says in one sentence what is wrong."""
    try:
        settings = NotifySettings()
    except ValidationError as error:
        raise SettingsError(describe(error)) from None
    key = parse_master_key(settings.master_key.get_secret_value())
    rules = Rules(_read("SLUICE_NOTIFY_POLICY", read_policy, settings.policy), _read_words(settings.wording), key)
    _check_complete(rules)
    gateways = _read("SLUICE_GATEWAYS", read_gateways, settings.gateways)
    return rules, Outside(gateways, settings.public_host, settings.public_port, settings.public_url)


def _read(name: str, read: Callable[[Path], _Read], path: Path) -> _Read:
    try:
        return read(path)
    except FileError as error:
        raise SettingsError(f"{name}: {error}.") from None


def _read_words(path: Path) -> Wording:
    try:
        return read_wording(path)
    except WordingError as error:
        raise SettingsError(f"SLUICE_WORDING: {error}") from None


def _check_complete(rules: Rules) -> None:
    for locale in Locale:
        if missing := REASONS.keys() - rules.wording.reasons(locale):
            raise SettingsError(f"SLUICE_WORDING: there are no words in {locale} for the reasons {sorted(missing)}.")
    for event_type, rule in rules.policy.events.items():
        for role in rule.to:
            if not rules.wording.tells(event_type, Role(role)):
                raise SettingsError(
                    f"SLUICE_WORDING: there are no words of {event_type} for the {role} in every language."
                )
