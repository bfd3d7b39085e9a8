"""What the runtime can be told from the environment, read once and checked before anything starts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.clock import clock_from_setting
from services.runtime.personal_data import PersonalDataError, parse_master_key


class SettingsError(Exception):
    """A setting is missing or wrong; the text is one sentence that names it and never shows its value."""


class RuntimeSettings(BaseSettings):
    """The settings of every worker; times in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True, env_ignore_empty=True
    )

    kafka_bootstrap_servers: Annotated[str, Field(pattern=r"^[^\s,]+:\d+(,[^\s,]+:\d+)*$")]
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: FilePath | None = None
    kafka_ssl_certfile: FilePath | None = None
    kafka_ssl_keyfile: FilePath | None = None
    kafka_ssl_check_hostname: bool = True
    kafka_compression: Literal["none", "gzip", "lz4"] = "none"

    database_url: SecretStr

    otel_exporter_otlp_endpoint: Annotated[str | None, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")] = None
    otel_traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 0.01

    topic_prefix: Annotated[str, Field(validation_alias="SLUICE_TOPIC_PREFIX", pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    clock: Annotated[str, Field(validation_alias="SLUICE_CLOCK")] = "real"
    http_host: Annotated[str, Field(validation_alias="SLUICE_HTTP_HOST")] = "127.0.0.1"
    http_port: Annotated[int, Field(validation_alias="SLUICE_HTTP_PORT", ge=0, le=65535)] = 0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(validation_alias="SLUICE_LOG_LEVEL")] = (
        "info"
    )
    log_format: Annotated[Literal["json", "console"], Field(validation_alias="SLUICE_LOG_FORMAT")] = "json"
    migrate: Annotated[bool, Field(validation_alias="SLUICE_MIGRATE")] = True
    master_key: Annotated[SecretStr | None, Field(validation_alias="SLUICE_MASTER_KEY")] = None

    batch_size: Annotated[int, Field(validation_alias="SLUICE_BATCH_SIZE", ge=1, le=20_000)] = 3_000
    max_message_bytes: Annotated[int, Field(validation_alias="SLUICE_MAX_MESSAGE_BYTES", ge=2_000, le=64_000_000)] = (
        1_000_000
    )
    max_unpacked_bytes: Annotated[
        int, Field(validation_alias="SLUICE_MAX_UNPACKED_BYTES", ge=2_000_000, le=256_000_000)
    ] = 16_000_000
    publish_timeout_s: Annotated[float, Field(validation_alias="SLUICE_PUBLISH_TIMEOUT", gt=0, le=600)] = 30
    stall_timeout_s: Annotated[float, Field(validation_alias="SLUICE_STALL_TIMEOUT", gt=0, le=3600)] = 60
    shutdown_timeout_s: Annotated[float, Field(validation_alias="SLUICE_SHUTDOWN_TIMEOUT", gt=0, le=600)] = 20
    watch_interval_s: Annotated[float, Field(validation_alias="SLUICE_WATCH_INTERVAL", gt=0, le=60)] = 2
    timer_interval_s: Annotated[float, Field(validation_alias="SLUICE_TIMER_INTERVAL", gt=0, le=60)] = 0.1

    brake_in_a_row: Annotated[int, Field(validation_alias="SLUICE_BRAKE_IN_A_ROW", ge=1)] = 20
    brake_share: Annotated[float, Field(validation_alias="SLUICE_BRAKE_SHARE", gt=0, le=1)] = 0.05
    brake_of_at_least: Annotated[int, Field(validation_alias="SLUICE_BRAKE_OF_AT_LEAST", ge=1)] = 1_000

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it must start with postgresql://")
        return url

    @field_validator("clock")
    @classmethod
    def _names_a_clock(cls, text: str) -> str:
        clock_from_setting(text)
        return text

    @field_validator("master_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        return None if key is None else checked_key(key)

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD must be set for SASL")
        return self


def checked_key(key: SecretStr) -> SecretStr:
    """Return a key of 32 bytes in base64 as it is; ValueError, as settings classes want it, for any other text."""
    try:
        parse_master_key(key.get_secret_value())
    except PersonalDataError as error:
        raise ValueError(str(error)) from None
    return key


class KeyedSettings(BaseSettings):
    """The two keys of a service that seals personal data and compares it by hashes."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True)

    master_key: Annotated[SecretStr, Field(validation_alias="SLUICE_MASTER_KEY")]
    name_key: Annotated[SecretStr, Field(validation_alias="SLUICE_NAME_KEY")]

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


def load_settings() -> RuntimeSettings:
    """Read the environment; SettingsError says in one sentence what is wrong."""
    try:
        return RuntimeSettings()
    except ValidationError as error:
        raise SettingsError(describe(error)) from None


def describe(error: ValidationError) -> str:
    """Return one sentence about the first wrong setting of any settings class, without its value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    name = "_".join(str(part) for part in first["loc"]).upper()
    if first["type"] == "missing":
        return f"The setting {name} is missing."
    return f"The setting {name} is wrong: {reason}." if name else f"The settings are wrong: {reason}."
