"""What should become of each transfer, by plain sums and one message at a time: a second opinion on the rules."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable

OVERDRAFT = 500
SINGLE, DAILY, COUNT = 2_000_000, 3_000, 8
VERIFIED_FROM, ATTEMPTS, EXPIRES_S, COOLING_S = 1_000, 2, 300, 900
FEE_BASIS_POINTS, FEE_MINIMUM = 100, 2
DELAYED_AFTER_S = 120

TIER = {
    "limits": {"single_minor": SINGLE, "daily_minor": DAILY, "daily_count": COUNT},
    "fees": [{"kind": "withdrawal", "basis_points": FEE_BASIS_POINTS, "minimum_minor": FEE_MINIMUM}],
    "verification": {
        "from_minor": VERIFIED_FROM,
        "methods": ["face"],
        "attempts": ATTEMPTS,
        "expires_after_s": EXPIRES_S,
        "cooling_s": COOLING_S,
    },
}
"""The tier whose figures stand above, small enough for every limit to be met within a few transfers."""

SHANGHAI = ZoneInfo("Asia/Shanghai")


@dataclass
class Plan:
    """A transfer."""

    kind: str
    payer: str
    payee: str
    amount: int
    execute_at: datetime | None
    case: object = None
    status: str = "failed"
    fee: int = 0
    verified: bool = False
    attempts: int = ATTEMPTS
    wakes_at: datetime | None = None
    used_on: object = None
    refunding: int = 0
    refunded: int = 0
    unknowns: int = 0


@dataclass
class Back:
    """Money on its way back to a bank."""

    plan: Plan
    amount: int
    source: str
    is_open: bool = True
    unknowns: int = 0


@dataclass
class PlainLedger:
    """Balances and transfers as the contract and the domain have them."""

    wallets: tuple[str, ...]
    now: datetime
    return_id: Callable[[uuid.UUID], uuid.UUID]
    posted: Counter[str] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    plans: dict[str, Plan] = field(default_factory=dict)
    backs: dict[str, Back] = field(default_factory=dict)
    cooling: dict[str, datetime] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    closing: dict[str, object] = field(default_factory=dict)
    """The case that each closing wallet is closed for."""
    closed: dict[str, object] = field(default_factory=dict)

    def hear(self, type_: str, message_id: str, data: dict[str, Any]) -> None:
        """Take one message; a bank's word that comes again is no other word."""
        if type_.startswith("payout.") and message_id in self.heard:
            return
        self.heard.add(message_id)
        if type_.startswith("account."):
            self._close(type_.removeprefix("account."), data["account_id"], data["case_id"])
            return
        id_ = str(data["transfer_id"])
        if type_ == "transfer.request":
            self._request(id_, data)
        elif type_.startswith("payout."):
            self._bank(id_, type_.removeprefix("payout."))
        elif id_ in self.plans:
            plan = self.plans[id_]
            if type_ == "transfer.cancel" and plan.status in {"scheduled", "verification_required"}:
                plan.status = "cancelled"
            elif type_ == "transfer.verify" and plan.status == "verification_required":
                self._verify(plan, passed=data["outcome"] == "passed")
            elif type_ == "transfer.refund":
                self._refund(str(data["refund_id"]), plan, data["amount_minor"])
            elif type_ == "transfer.resolve" and plan.status in {"sent", "delayed"}:
                self._give_back(plan)

    def pass_time(self, now: datetime) -> None:
        """Move on to a moment, and do what was to be done by then."""
        self.now = now
        for wallet in self.closing:
            for plan in self.waiting_in(wallet):
                if plan.case != self.closing[wallet]:
                    plan.status, plan.wakes_at = "cancelled", None
        due = [(plan.wakes_at, id_) for id_, plan in self.plans.items() if plan.wakes_at and plan.wakes_at <= now]
        for _, id_ in sorted(due):
            plan = self.plans[id_]
            plan.wakes_at = None
            if plan.status == "scheduled":
                self._go_on(plan)
            elif plan.status == "verification_required":
                plan.status = "failed"
            elif plan.status == "sent":
                plan.status = "delayed"

    # --- Closing ---

    def _close(self, word: str, wallet: str, case: object) -> None:
        if word == "close" and wallet not in self.closing and wallet not in self.closed:
            self.closing[wallet] = case
        elif word == "reopen" and self.closed.get(wallet) == case:
            del self.closed[wallet]
        elif self.closing.get(wallet) == case and word == "reinstate":
            del self.closing[wallet]
        elif self.closing.get(wallet) == case and word == "finish" and self._is_empty(wallet):
            self.closed[wallet] = self.closing.pop(wallet)

    def waiting_in(self, wallet: str) -> list[Plan]:
        """Return what waits to be paid by a wallet."""
        return [
            plan
            for plan in self.plans.values()
            if plan.payer == wallet and plan.status in {"scheduled", "verification_required"}
        ]

    def _is_empty(self, wallet: str) -> bool:
        return not self.posted[wallet] and not self.is_under_way(wallet)

    def is_under_way(self, wallet: str) -> bool:
        """Tell whether something waits in a wallet, or is on its way from it to a bank."""
        return bool(self.reserved[wallet] or self.waiting_in(wallet))

    def _is_own(self, plan: Plan) -> bool:
        return plan.payer in self.closing and self.closing[plan.payer] == plan.case

    def _takes(self, wallet: str, plan: Plan) -> bool:
        if wallet in self.closed:
            return False
        return wallet not in self.closing or self.closing[wallet] == plan.case

    # --- Requests ---

    def _request(self, id_: str, data: dict[str, Any]) -> None:
        if id_ in self.plans:
            return
        plan = Plan(data["kind"], data["payer"], data["payee"], data["amount_minor"], data["execute_at"])
        plan.case = data["case_id"]
        self.plans[id_] = plan
        # Nobody here has a profile, so a name cannot be the right one.
        if data["payee_name"] is None and self._is_possible(plan):
            is_blocked = plan.payer in self.cooling and self.cooling[plan.payer] > self.now
            if self._is_own(plan) or not self._wants_proof(plan):
                self._do_or_wait(plan)
            elif not is_blocked:
                plan.status, plan.wakes_at = "verification_required", self.now + timedelta(seconds=EXPIRES_S)
        elif plan.kind == "top_up":
            self.posted["bank"] -= plan.amount
            self.posted["suspense"] += plan.amount
            self.backs[str(self.return_id(uuid.UUID(id_)))] = Back(plan, plan.amount, "suspense")

    def _is_possible(self, plan: Plan) -> bool:
        named = [party for party in (plan.payer, plan.payee) if party.startswith("wallet:")]
        if plan.payer == plan.payee or not set(named) <= set(self.wallets):
            return False
        if not all(self._takes(wallet, plan) for wallet in named):
            return False
        if plan.kind == "top_up":
            return True
        if self._is_own(plan):
            plan.fee = 0
            return self._is_later(plan) or plan.amount <= self._spendable(plan.payer)
        plan.fee = (
            max((plan.amount * FEE_BASIS_POINTS + 5_000) // 10_000, FEE_MINIMUM) if plan.kind == "withdrawal" else 0
        )
        if plan.amount > SINGLE:
            return False
        if self._is_later(plan):
            return True
        today = [other for other in self.plans.values() if other.payer == plan.payer and other.used_on == self._today()]
        used = sum(other.amount - other.refunded for other in today)
        count = sum(other.refunded < other.amount for other in today)
        return used + plan.amount <= DAILY and count < COUNT and plan.amount + plan.fee <= self._spendable(plan.payer)

    def _today(self) -> object:
        return self.now.astimezone(SHANGHAI).date()

    def _is_later(self, plan: Plan) -> bool:
        return plan.execute_at is not None and plan.execute_at > self.now

    def _spendable(self, wallet: str) -> int:
        return self.posted[wallet] - self.reserved[wallet] + OVERDRAFT

    @staticmethod
    def _wants_proof(plan: Plan) -> bool:
        return plan.kind != "top_up" and plan.amount >= VERIFIED_FROM and not plan.verified

    def _verify(self, plan: Plan, *, passed: bool) -> None:
        is_late = plan.wakes_at is not None and plan.wakes_at <= self.now
        is_cooling = plan.payer in self.cooling and self.cooling[plan.payer] > self.now and not self._is_own(plan)
        if is_late or is_cooling:
            plan.status = "failed"
        elif passed:
            plan.verified = True
            self._go_on(plan)
        else:
            plan.attempts -= 1
            if not plan.attempts:
                plan.status = "failed"
                self.cooling[plan.payer] = self.now + timedelta(seconds=COOLING_S)

    def _go_on(self, plan: Plan) -> None:
        if self._is_possible(plan):
            self._do_or_wait(plan)
        else:
            plan.status = "failed"

    def _do_or_wait(self, plan: Plan) -> None:
        if self._is_later(plan):
            plan.status, plan.wakes_at = "scheduled", plan.execute_at
            return
        if plan.kind != "top_up" and not self._is_own(plan):
            plan.used_on = self._today()
        if plan.kind == "withdrawal":
            self.reserved[plan.payer] += plan.amount + plan.fee
            plan.status, plan.wakes_at = "sent", self.now + timedelta(seconds=DELAYED_AFTER_S)
        else:
            self._pay(plan)

    def _pay(self, plan: Plan, sign: int = 1) -> None:
        self.posted[self._book_of_payer(plan)] -= sign * (plan.amount + plan.fee)
        self.posted[_book(plan.payee)] += sign * plan.amount
        self.posted["fees"] += sign * plan.fee
        plan.status = "settled"

    def _book_of_payer(self, plan: Plan) -> str:
        return "unclaimed" if plan.payer in self.closed else _book(plan.payer)

    # --- Money that comes back ---

    def _refund(self, id_: str, plan: Plan, amount: int) -> None:
        left = plan.amount - plan.refunded - plan.refunding
        is_payable = plan.kind != "withdrawal" and plan.status in {"settled", "refunding"}
        is_open = plan.payee not in self.closing and plan.payee not in self.closed
        if not is_payable or not is_open or amount > left or amount > self._spendable(plan.payee):
            return
        if plan.kind == "top_up":
            self.reserved[plan.payee] += amount
            plan.refunding += amount
            self.backs[id_] = Back(plan, amount, plan.payee)
        else:
            self.posted[plan.payee] -= amount
            self.posted[self._book_of_payer(plan)] += amount
            plan.refunded += amount
        self._stand(plan)

    @staticmethod
    def _stand(plan: Plan) -> None:
        if plan.refunded == plan.amount:
            plan.status = "refunded"
        else:
            plan.status = "refunding" if plan.refunding else "settled"

    def _give_back(self, plan: Plan) -> None:
        self.reserved[plan.payer] -= plan.amount + plan.fee
        plan.status, plan.refunded = "refunded", plan.amount

    # --- The bank ---

    def _bank(self, id_: str, word: str) -> None:
        if id_ in self.backs:
            self._bank_on_return(self.backs[id_], word)
        elif id_ in self.plans and self.plans[id_].kind == "withdrawal":
            self._bank_on_payout(self.plans[id_], word)

    def _bank_on_payout(self, plan: Plan, word: str) -> None:
        if plan.status == "settled" and word == "returned":
            self._pay(plan, sign=-1)
            plan.status, plan.refunded = "refunded", plan.amount
        elif plan.status in {"sent", "delayed"}:
            plan.unknowns += word == "unknown"
            if word == "settled":
                self.reserved[plan.payer] -= plan.amount + plan.fee
                self._pay(plan)
            elif word != "unknown" or plan.unknowns == 2:
                self._give_back(plan)

    def _bank_on_return(self, back: Back, word: str) -> None:
        back.unknowns += word == "unknown"
        if not back.is_open or (word == "unknown" and back.unknowns < 2):
            return
        back.is_open = False
        plan, is_wallets = back.plan, back.source != "suspense"
        if is_wallets:
            self.reserved[back.source] -= back.amount
            plan.refunding -= back.amount
        if word == "settled":
            self.posted[back.source] -= back.amount
            self.posted["bank"] += back.amount
            plan.refunded += back.amount
        if is_wallets or plan.refunded:
            self._stand(plan)


def _book(party: str) -> str:
    return "bank" if party.startswith("bank:") else party
