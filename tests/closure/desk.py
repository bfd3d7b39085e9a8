"""The closing service's own handlers, with a memory in place of their database, for tests of what they decide."""

from __future__ import annotations

import uuid
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import UUID

import orjson
from stdnum.cn import ric

from schemas.envelope import Envelope, decode
from schemas.fields import as_text
from schemas.registry import TOPICS
from services.closure import handlers
from services.closure.decide.book import Facts, Rules
from services.closure.handlers import Handlers
from services.closure.model import ENDED, TRANSITIONS, Customer, Status
from services.closure.policy import Policy
from services.closure.store import Subjects
from services.runtime.identity_hash import KeyedHashes
from services.runtime.message import Batch, Effects, Lane, Message, Timer

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Iterable

    from services.closure.decide.book import Book
    from services.closure.model import Position, Wallet
    from services.runtime.message import Outgoing

MORNING = datetime(2026, 9, 28, 1, 0, tzinfo=UTC)
LANE = Lane("case", 0)
WALLET = "wallet:1"
LOAN = "loan:l-1"
CUSTOMER = "customer-1"
FEE = 100
SERVICES = ("transfer", "maintenance")

Said = tuple[str, dict[str, Any]]


def id_number(year: int = 1990) -> str:
    """Return a made-up ID number of somebody born in a year: right in form, date and checksum."""
    body = f"110101{year}0115001"
    return body + ric.calc_check_digit(body + "0")


APPLICANT = {"name": "Person One", "id_number": id_number(), "phone": "+8613800000001"}
PAYOUT = {"payee": "bank:ICBC:1", "payee_name": "Person One"}
RECEIVED_FROM = {
    "closure.commands": "on_commands",
    "transfer.events": "on_transfers",
    "customer.profiles": "on_profiles",
    "obligation.positions": "on_positions",
    "account.states": "on_states",
    "risk.events": "on_risks",
    "erasure.events": "on_erasures",
}


class _NoClearances:
    """A database that knows of no clearance, for those who ask it whether it does."""

    async def fetch(self, _query: str, *_arguments: Any) -> list[Any]:
        return []


class Memory:
    """What the database would keep: each batch gets copies, and nothing stays of one that fails."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.steps: dict[UUID, list[str]] = {}
        self.revisions: set[tuple[UUID, int]] = set()

    async def load_facts(self, _connection: Any, asked: Subjects, _master_key: bytes) -> Facts:
        known, facts = self.facts, Facts()
        owners = {case.customer_id for case in known.cases.values() if case.case_id in asked.cases}
        owners |= {known.wallets[id_].customer_id for id_ in asked.wallets if id_ in known.wallets}
        owners |= {known.positions[id_].customer_id for id_ in asked.loans if id_ in known.positions}
        ids = asked.customers | {owner for owner in owners if owner is not None}
        facts.customers = {id_: deepcopy(known.customers.get(id_) or Customer(id_)) for id_ in sorted(ids)}
        for wallet in known.wallets.values():
            if wallet.customer_id in ids or wallet.account_id in asked.wallets:
                facts.wallets[wallet.account_id] = deepcopy(wallet)
        for position in known.positions.values():
            if position.customer_id in ids or position.obligation_id in asked.loans:
                facts.positions[position.obligation_id] = position
        for case in known.cases.values():
            is_about = case.status not in ENDED and (case.customer_id in ids or case.subject in asked.subjects)
            if case.case_id in asked.cases or is_about:
                facts.cases[case.case_id] = deepcopy(case)
                if case.status not in ENDED and case.case_id in known.applications:
                    facts.applications[case.case_id] = known.applications[case.case_id]
        facts.answers = {key: known.answers[key] for key in asked.answers if key in known.answers}
        return facts

    async def find_unowned(self, _connection: Any, cases: Collection[UUID]) -> set[str]:
        known = (self.facts.cases[id_] for id_ in cases if id_ in self.facts.cases)
        return {case.subject for case in known if case.customer_id is None and case.status not in ENDED}

    async def lock_customers(self, _connection: Any, ids: Collection[str]) -> dict[str, Customer]:
        return {id_: deepcopy(self.facts.customers.get(id_) or Customer(id_)) for id_ in ids}

    async def record_wallets(self, _connection: Any, wallets: Iterable[Wallet]) -> None:
        for wallet in wallets:
            before = self.facts.wallets.get(wallet.account_id)
            if before is None or before.version < wallet.version:
                self.facts.wallets[wallet.account_id] = wallet

    async def record_positions(self, _connection: Any, positions: Iterable[Position], gone: Iterable[str]) -> None:
        self.facts.positions |= {position.obligation_id: position for position in positions}
        for id_ in gone:
            self.facts.positions.pop(id_, None)

    async def find_being_erased(self, _connection: Any, customers: Collection[str]) -> set[str]:
        cases = self.facts.cases.values()
        return {
            case.customer_id
            for case in cases
            if case.customer_id in customers
            and (case.status == Status.ERASING or (case.erasure == "deferred" and case.refusal == "forgetting"))
        }

    async def find_sealed(self, _connection: Any, customers: Collection[str]) -> set[str]:
        cases = (self.facts.cases[id_] for id_ in self.facts.applications)
        return {case.customer_id for case in cases if case.customer_id in customers}

    async def record(self, _connection: Any, book: Book, _master_key: bytes) -> None:
        """Keep what a batch changed, and hold it to what the database demands of cases and their steps."""
        self.facts.customers |= book.changed_customers
        self.facts.cases |= book.changed
        self.facts.applications |= book.applied
        self.facts.answers |= book.answered
        for case in self.facts.cases.values():
            if case.customer_id in book.erased:
                self.facts.applications.pop(case.case_id, None)
        for step in book.steps:
            before = self.steps.setdefault(step.case_id, [])
            assert step.number == len(before) + 1
            assert step.previous == (before[-1] if before else None)
            assert step.status in {step.previous, *TRANSITIONS.get(Status(step.previous or step.status), ())} or (
                not before
            )
            before.append(step.status)
            if step.revision is not None:
                assert (step.case_id, step.revision) not in self.revisions, "an event's revision is used twice"
                self.revisions.add((step.case_id, step.revision))
        subjects = [case.subject for case in self.facts.cases.values() if case.status not in ENDED]
        assert len(subjects) == len(set(subjects)), "two cases close one wallet"
        for case in book.changed.values():
            assert (case.ended_at is not None) == (case.status in ENDED)
            assert min(case.fee_minor, case.payout_minor, case.paid_minor, case.fee_paid_minor) >= 0
            assert case.fee_paid_minor <= case.fee_minor
            assert len(case.paid_numbers) <= case.payouts


def message(topic: str, type_: str, data: dict[str, Any] | None, key: str = WALLET, id_: str | None = None) -> Message:
    """Return a message as the runtime would give it: read from JSON by the wire's own models."""
    body = None if data is None else TOPICS[topic][type_].model_validate_json(orjson.dumps(data))
    return Message(LANE, topic, 0, key.encode(), type_, id_ or str(uuid.uuid4()), "test", body)


@dataclass
class Desk:
    """Closings decided in memory: each call of `hear` is a batch of its own."""

    policy: dict[str, Any] = field(default_factory=dict)
    now: datetime = MORNING
    memory: Memory = field(default_factory=Memory)
    timers: dict[tuple[str, str], Timer] = field(default_factory=dict)
    published: list[Outgoing] = field(default_factory=list)
    versions: int = 0

    def __post_init__(self) -> None:
        """Read the policy: with a fee, and with two services that forget people."""
        full = {"fee": {"minor": {"CNY": FEE}}, "erasing": {"services": list(SERVICES)}} | self.policy
        self.rules = Rules(Policy.model_validate_json(orjson.dumps(full)), KeyedHashes(b"k" * 32))
        self._handlers = Handlers(self.rules, b"m" * 32)
        names = [name for name in dir(Memory) if not name.startswith("_") and callable(getattr(Memory, name))]
        self._store = SimpleNamespace(Subjects=Subjects, **{name: getattr(self.memory, name) for name in names})

    # --- Batches ---

    def hear(self, *messages: Message) -> list[Said]:
        """Handle messages of one topic; return what follows from them."""
        return self._keep(getattr(self._handlers, RECEIVED_FROM[messages[0].topic]), Batch(messages))

    def pass_time(self, by: timedelta) -> list[Said]:
        """Move the clock and handle what is due, each in its turn."""
        self.now += by
        said: list[Said] = []
        while due := sorted((one for one in self.timers.values() if one.due_at <= self.now), key=lambda t: t.due_at):
            del self.timers[due[0].kind, due[0].subject]
            if due[0].kind != "residue":
                said += self._keep(self._handlers.on_commands, Batch((), (due[0],)))
        return said

    def _keep(self, handle: Any, batch: Batch) -> list[Said]:
        with patch.object(handlers, "store", self._store):
            effects = _run(handle(_NoClearances(), batch, self.now))
        assert not effects.unfit
        for key in effects.timers_cleared:
            self.timers.pop((key.kind, key.subject), None)
        for timer in effects.timers_set:
            self.timers[timer.kind, timer.subject] = timer
        self.published += effects.outgoing
        return [read(one) for one in effects.outgoing]

    # --- What others say ---

    def join(self, *, posted_minor: int | None = 0, **profile: Any) -> list[Said]:
        """Make the customer known, with a wallet unless `posted_minor` is None."""
        known = {"customer_id": CUSTOMER, **APPLICANT, "phone_verified": True, **profile}
        said = self.hear(message("customer.profiles", "customer.profile", known, CUSTOMER))
        return said if posted_minor is None else [*said, *self.hear_of_wallet(posted_minor)]

    def hear_of_wallet(self, posted_minor: int, **more: Any) -> list[Said]:
        """Hear how a wallet stands."""
        return self.hear(message("account.states", "account.opened", self.state(posted_minor, **more)))

    def forget(self) -> list[Said]:
        """Have the identity system forget the customer."""
        return self.hear(message("customer.profiles", "customer.profile", None, CUSTOMER))

    def flag(self, rule: str = "velocity", *, is_cleared: bool = False) -> list[Said]:
        """Suspect the customer for a day, or no more."""
        flag = {"customer_id": CUSTOMER, "rule": rule}
        if is_cleared:
            return self.hear(message("risk.events", "risk.cleared", flag, CUSTOMER))
        until = as_text(self.now + timedelta(days=1))
        return self.hear(message("risk.events", "risk.flagged", {**flag, "until": until}, CUSTOMER))

    def state(self, posted_minor: int, **more: Any) -> dict[str, Any]:
        """Return how the wallet stands, later than before."""
        self.versions += 1
        state = {"account_id": WALLET, "customer_id": CUSTOMER, "currency": "CNY", "tier": "standard", "status": "open"}
        money = {"posted_minor": posted_minor, "reserved_minor": 0, "available_minor": posted_minor}
        return {**state, **money, "version": self.versions, **more}

    def owe(self, principal_minor: int = 0, **more: Any) -> list[Said]:
        """Say what the customer owes on their loan."""
        position = {"obligation_id": "l-1", "customer_id": CUSTOMER, "account": WALLET, "kind": "loan"}
        money = {"principal_minor": principal_minor, "interest_minor": 0, "penalty_minor": 0, "currency": "CNY"}
        full: dict[str, Any] = {**position, **money, "status": "open" if principal_minor else "settled", **more}
        return self.hear(message("obligation.positions", "obligation.position", full, full["obligation_id"]))

    def apply(self, subject: str = WALLET, case_id: UUID | None = None, **more: Any) -> tuple[UUID, list[Said]]:
        """Apply for a closing; return the case and what followed."""
        case_id = case_id or uuid.uuid4()
        request = {"case_id": str(case_id), "subject": subject, "reason": "Not needed", "applicant": APPLICANT}
        return case_id, self.hear(message("closure.commands", "closure.request", {**request, **more}, subject))

    def say(self, type_: str, case_id: UUID, id_: str | None = None, **data: Any) -> list[Said]:
        """Say something about a case."""
        command = {"case_id": str(case_id), **data}
        return self.hear(message("closure.commands", f"closure.{type_}", command, id_=id_))

    def report(self, case_id: UUID, posted_minor: int, **more: Any) -> list[Said]:
        """Answer the latest report that a case asked for."""
        report = {**self.state(posted_minor), "report_id": str(self.case(case_id).report_id), **more}
        return self.hear(message("transfer.events", "account.reported", report))

    def report_other(self, case_id: UUID, account_id: str, posted_minor: int) -> list[Said]:
        """Answer the latest report of a case with another wallet of the customer's."""
        return self.report(case_id, posted_minor, account_id=account_id)

    def account(self, type_: str, case_id: UUID, posted_minor: int = 0, **more: Any) -> list[Said]:
        """Say something of the wallet of a case."""
        status = {"drained": "closing", "closed": "closed", "reinstated": "open"}[type_]
        event = {**self.state(posted_minor, status=status, **more), "case_id": str(case_id)}
        return self.hear(message("transfer.events", f"account.{type_}", event))

    def transfer(self, type_: str, case_id: UUID, transfer_id: UUID, amount_minor: int, **more: Any) -> list[Said]:
        """Say what became of a payout or a fee."""
        event = {
            "transfer_id": str(transfer_id),
            "seq": 2,
            "kind": "withdrawal",
            "payer": WALLET,
            "payee": PAYOUT["payee"],
            "amount_minor": amount_minor,
            "fee_minor": 0,
            "currency": "CNY",
            "status": type_,
            "case_id": str(case_id),
            "requested_at": "2026-09-28T01:00:00Z",
            "occurred_at": "2026-09-28T01:00:00Z",
        }
        if type_ == "refunded":
            event["refunded_total_minor"] = amount_minor
        return self.hear(message("transfer.events", f"transfer.{type_}", {**event, **more}))

    def refuse(self, command_type: str, command_id: str, code: str, **more: Any) -> list[Said]:
        """Refuse a command as the transfer service would."""
        reason = {"code": code, "retryable": False, "refund": "none"}
        body = {"command_type": command_type, "command_id": command_id, "reason": reason, **more}
        said = {**body, "occurred_at": "2026-09-28T01:00:00Z"}
        return self.hear(message("transfer.events", "transfer.command_refused", said))

    def erased(self, case_id: UUID | None, service: str, customer_id: str = CUSTOMER) -> list[Said]:
        """Say that a service has forgotten the customer for a case; without one, because of a null profile."""
        asked = None if case_id is None else str(case_id)
        body = {"customer_id": customer_id, "service": service, "retained": [], "case_id": asked}
        return self.hear(message("erasure.events", "customer.erased", body, customer_id))

    # --- What is known ---

    def case(self, case_id: UUID) -> Any:
        return self.memory.facts.cases[case_id]

    def status(self, case_id: UUID) -> str:
        return str(self.case(case_id).status)


def _run(coroutine: Coroutine[Any, Any, Effects]) -> Effects:
    """Run what awaits nothing but the memory."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        effects: Effects = stop.value
        return effects
    raise AssertionError("the handler waits for something")


def read(outgoing: Outgoing) -> Said:
    """Return type and body of one of our messages, which the wire's own strict model must accept."""
    found = decode(outgoing.headers, outgoing.value, TOPICS[outgoing.topic])
    assert isinstance(found, Envelope), found
    return found.type, orjson.loads(outgoing.value or b"")


def types(said: Iterable[Said]) -> list[str]:
    """Return what was said, without bodies."""
    return [type_ for type_, _ in said]


def reason(said: list[Said]) -> tuple[str, dict[str, Any]]:
    """Return the last thing said, and its only or first reason."""
    type_, body = said[-1]
    found: dict[str, Any] = body["reasons"][0] if "reasons" in body else body["reason"]
    return type_, found
