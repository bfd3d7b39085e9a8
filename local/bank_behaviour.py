"""How the sandbox bank behaves: as the environment and a file say, and the same for the same payout.

The file is JSON and is read again whenever it changes; what it does not say, `SLUICE_BANK_…` in the environment says:

    {"delay_s": 0.5, "failure_rate": 0.1, "rail_code": "AC01",
     "rules": [{"payee": "bank:ICBC:0002", "outcome": "fail", "rail_code": "AC04", "times": 1},
               {"payee": "*9999", "answers": [{"answer": "settled"}, {"answer": "returned", "after_s": 600}]}]}
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from local.behaviour import Seconds, Share, share_of

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIX: Final = "SLUICE_BANK_"

Inquiry = Literal["same", "unknown", "silent"]
"""What an inquiry is answered with: what the bank has said so far, that it has no record, or nothing."""


class Answer(BaseModel):
    """What the bank says of a payout, and how long after the instruction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: Literal["settled", "failed", "returned", "unknown"]
    after_s: Seconds = 0
    rail_code: str = "MS03"
    detail: str | None = None


class Conduct(BaseModel):
    """What becomes of one payout: the answers, none is silence, and what an inquiry hears."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[Answer, ...]
    inquiry: Inquiry = "same"


class Rule(BaseModel):
    """How payouts to some payees go: a pattern such as `bank:ICBC:*`, or the end of the reference.

    `outcome` is short for the usual answers: `delay_s` passes before the last of them; `return` settles first,
    `late_settle` fails first. `answers` says them one by one. `times` ends the rule after so many payouts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    payee: Annotated[str, Field(min_length=1)]
    outcome: Literal["settle", "fail", "return", "silent", "unknown", "late_settle"] | None = None
    rail_code: str = "MS03"
    delay_s: Seconds = 0
    answers: tuple[Answer, ...] | None = None
    inquiry: Inquiry = "same"
    times: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if (self.outcome is None) == (self.answers is None):
            raise ValueError("a rule has either an outcome or answers")
        return self

    def fits(self, payee: str) -> bool:
        """Tell whether the rule is about a payee."""
        return payee.endswith(self.payee) or fnmatchcase(payee, self.payee)

    def conduct(self) -> Conduct:
        """Return what becomes of a payout that the rule is about."""
        if self.answers is not None:
            return Conduct(answers=self.answers, inquiry=self.inquiry)
        settled, failed = Answer(answer="settled"), Answer(answer="failed", rail_code=self.rail_code)
        late = {"after_s": self.delay_s}
        answers: tuple[Answer, ...] = ()
        match self.outcome:
            case "settle":
                answers = (settled.model_copy(update=late),)
            case "fail":
                answers = (failed.model_copy(update=late),)
            case "return":
                answers = (settled, Answer(answer="returned", after_s=self.delay_s, rail_code=self.rail_code))
            case "late_settle":
                answers = (failed, settled.model_copy(update=late))
            case "unknown":
                return Conduct(answers=(), inquiry="unknown")
            case "silent":
                return Conduct(answers=(), inquiry="silent")
        return Conduct(answers=answers, inquiry=self.inquiry)


class Behaviour(BaseSettings):
    """How payouts go: by the first rule that fits, else by shares of all payouts; without any, all settle at once.

    `unknown` has the bank know nothing when it is asked about the payouts of the shares.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=_PREFIX, env_ignore_empty=True)

    delay_s: Seconds = 0
    failure_rate: Share = 0
    rail_code: str = "MS03"
    return_rate: Share = 0
    return_after_s: Seconds = 1
    silence_rate: Share = 0
    duplicate_rate: Share = 0
    unknown: bool = False
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if self.failure_rate + self.return_rate + self.silence_rate + self.duplicate_rate > 1:
            raise ValueError("the rates together are more than 1")
        return self

    def rule_for(self, payee: str, is_used_up: Callable[[Rule], bool]) -> Rule | None:
        """Return the first rule that fits and is not used up."""
        return next((rule for rule in self.rules if rule.fits(payee) and not is_used_up(rule)), None)

    def conduct_of(self, transfer_id: str) -> Conduct:
        """Return what becomes of a payout that no rule is about, chosen by its id: a repeat goes the same."""
        luck = share_of(transfer_id)
        settled = Answer(answer="settled", after_s=self.delay_s)
        if (luck := luck - self.failure_rate) < 0:
            answers: tuple[Answer, ...] = (Answer(answer="failed", after_s=self.delay_s, rail_code=self.rail_code),)
        elif (luck := luck - self.return_rate) < 0:
            back_s = self.delay_s + self.return_after_s
            answers = (settled, Answer(answer="returned", after_s=back_s, rail_code=self.rail_code))
        elif (luck := luck - self.silence_rate) < 0:
            answers = ()
        elif luck - self.duplicate_rate < 0:
            answers = (settled, settled)
        else:
            answers = (settled,)
        return Conduct(answers=answers, inquiry="unknown" if self.unknown else "same")
