"""How the sandbox's SMS gateways behave: as the environment, a file and tests say, and the same for the same message.

The file is JSON and is read again whenever it changes; what it does not say, `SLUICE_SMS_SANDBOX_…` in the environment
says. What stands at the top is for all gateways, what stands under a name is for that one:

    {"receipt_delay_s": 1, "gateways": {
        "fast": {"failure_rate": 0.05, "rules": [{"to": "0009", "outcome": "late_failure"}]},
        "cheap": {"down": true}}}
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.behaviour import Seconds, Share

if TYPE_CHECKING:
    from local.behaviour import BehaviourFile

PREFIX: Final = "SLUICE_SMS_SANDBOX_"


class Conduct(NamedTuple):
    """What becomes of one message: whether it is refused or answered, and what its receipts say."""

    code: str | None = None
    """Why the gateway refuses it; None when it takes it."""
    is_permanent: bool = True
    is_silent: bool = False
    delay_s: float = 0
    late_code: str | None = None
    """Why the receipt says that it failed; None when it is delivered."""
    receipts: int = 1


class Rule(BaseModel):
    """How messages to numbers that end like this go, whatever the shares say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Annotated[str, Field(min_length=1)]
    outcome: Literal["deliver", "temporary", "permanent", "silent", "late_failure", "no_receipt", "two_receipts"]
    code: str | None = None
    delay_s: Seconds = 0

    def conduct(self) -> Conduct:
        """Return what becomes of a message that the rule is about."""
        plain = Conduct(delay_s=self.delay_s)
        match self.outcome:
            case "temporary":
                return plain._replace(code=self.code or "throttled", is_permanent=False)
            case "permanent":
                return plain._replace(code=self.code or "invalid_number")
            case "silent":
                return plain._replace(is_silent=True)
            case "late_failure":
                return plain._replace(late_code=self.code or "absent_subscriber")
            case "no_receipt":
                return plain._replace(receipts=0)
            case "two_receipts":
                return plain._replace(receipts=2)
            case "deliver":
                return plain


class GatewayBehaviour(BaseModel):
    """How one gateway behaves; without any settings it takes all messages and delivers them at once.

    `limit_per_s` refuses what is more in one second, `down` refuses everything, `id_form` has receipts over SMPP
    name messages in another form than the answer did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_s: Seconds = 0
    delay_rate: Share = 1
    failure_rate: Share = 0
    failure_code: str | None = None
    failure_is_permanent: bool = True
    silence_rate: Share = 0
    receipt_delay_s: Seconds = 0
    lost_receipt_rate: Share = 0
    duplicate_receipt_rate: Share = 0
    late_failure_rate: Share = 0
    late_failure_code: str = "absent_subscriber"
    limit_per_s: Annotated[int, Field(ge=0)] | None = None
    down: bool = False
    id_form: Literal["same", "lower", "stripped", "padded"] = "same"
    rules: tuple[Rule, ...] = ()

    def conduct_of(self, reference: str, to: str) -> Conduct:
        """Return what becomes of a message, chosen by its number, else by its reference: a repeat goes the same."""
        for rule in self.rules:
            if to.endswith(rule.to):
                return rule.conduct()
        return self._by_luck(reference) if self._has_shares else _DELIVERED

    @property
    def _has_shares(self) -> bool:
        return bool(
            self.failure_rate
            or self.silence_rate
            or self.delay_s
            or self.lost_receipt_rate
            or self.duplicate_receipt_rate
            or self.late_failure_rate
        )

    def _by_luck(self, reference: str) -> Conduct:
        fails, is_silent, waits, is_lost, is_double, fails_late = (
            luck / 65_536 < rate for luck, rate in zip(_lucks(reference), self._shares(), strict=True)
        )
        usual_code = "invalid_number" if self.failure_is_permanent else "throttled"
        return Conduct(
            code=(self.failure_code or usual_code) if fails else None,
            is_permanent=self.failure_is_permanent,
            is_silent=is_silent,
            delay_s=self.delay_s if waits else 0,
            late_code=self.late_failure_code if fails_late else None,
            receipts=0 if is_lost else 2 if is_double else 1,
        )

    def _shares(self) -> tuple[float, ...]:
        return (
            self.failure_rate,
            self.silence_rate,
            self.delay_rate,
            self.lost_receipt_rate,
            self.duplicate_receipt_rate,
            self.late_failure_rate,
        )


_DELIVERED: Final = Conduct()


def _lucks(reference: str) -> tuple[int, ...]:
    """Return six independent numbers below 65,536, always the same ones for the same reference."""
    return struct.unpack("<6H", hashlib.blake2b(reference.encode(), digest_size=12).digest())


class Behaviour(BaseSettings, GatewayBehaviour):
    """How all gateways behave, and how each differs; a gateway that is not named is like all."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True)

    gateways: dict[str, GatewayBehaviour] = Field(default={})


class SmsBehaviours:
    """How each gateway behaves: as tests say, else as the file does under its name, else as all gateways do."""

    def __init__(self, file: BehaviourFile[Behaviour]) -> None:
        self.path = file.path
        self._file = file
        self._said = file.read()
        self._told: dict[str, GatewayBehaviour] = {}
        self._known: dict[str, GatewayBehaviour] = {}

    def of(self, gateway: str) -> GatewayBehaviour:
        """Return the behaviour of a gateway that is in force."""
        if (said := self._file.read()) is not self._said:
            self._said = said
            self._known.clear()
        if gateway not in self._known:
            self._known[gateway] = self._merge(gateway)
        return self._known[gateway]

    def tell(self, gateway: str, behaviour: GatewayBehaviour) -> None:
        """Have a gateway behave as a test says in place of the file; what it does not say stays."""
        self._told[gateway] = behaviour
        self._known.clear()

    def _merge(self, gateway: str) -> GatewayBehaviour:
        all_ = self._said.model_dump(exclude_unset=True, exclude={"gateways"})
        own = self._told.get(gateway) or self._said.gateways.get(gateway) or GatewayBehaviour()
        return GatewayBehaviour(**{**all_, **own.model_dump(exclude_unset=True)})
