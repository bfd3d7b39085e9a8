"""The picture of a batch's facts that its decisions read and change, and what has to be recorded afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.closure import event_id
from schemas.envelope import encode_headers
from schemas.fields import as_text
from schemas.reasons import CLOSURE_REFUSALS
from services.closure.model import (
    ENDED,
    TRANSITIONS,
    Answer,
    AnswerKey,
    Application,
    Case,
    Customer,
    Position,
    Refusal,
    Reopening,
    ReopeningStatus,
    Status,
    Step,
    Subject,
    Wallet,
)
from services.runtime.message import Lane, Outgoing, Timer, TimerKey, identity_of, refusal_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import BaseModel

    from services.closure.model import Clearance
    from services.closure.policy import Policy
    from services.runtime.identity_hash import KeyedHashes
    from services.runtime.message import Caused, Message

SOURCE: Final = "sluice/closure"
EVENTS: Final = "closure.events"
_LONGEST_KEY: Final = 1_024


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy, and the hashes of names, numbers and contents."""

    policy: Policy
    hashes: KeyedHashes

    def cleared_by(self, clearance_id: UUID, wallet: str) -> UUID:
        """Return the id of the case that a clearance begins for a wallet: nobody can apply under it beforehand."""
        return self.hashes.own_id("case", clearance_id, wallet)

    def reported_to(self, clearance_id: UUID, number: int) -> UUID:
        """Return the id of one of the reports that a clearance asks for: nobody can ask under it beforehand."""
        return self.hashes.own_id("report", clearance_id, number)


@dataclass(slots=True)
class Facts:
    """What the database knew of a batch's subjects: of each customer everything, of cases those that are asked for.

    Of each customer's cases those are here that have not ended or whose erasure is deferred; of their applications to
    come back those that wait for an answer or opened a loan; of the closings that are here, what undid them.
    """

    customers: dict[str, Customer] = field(default_factory=dict)
    wallets: dict[str, Wallet] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    cases: dict[UUID, Case] = field(default_factory=dict)
    answers: dict[AnswerKey, Answer] = field(default_factory=dict)
    applications: dict[UUID, Application] = field(default_factory=dict)
    reopenings: dict[UUID, Reopening] = field(default_factory=dict)


class Book:
    """The facts of a batch, changed in memory, and what has to be recorded and published afterwards."""

    def __init__(self, facts: Facts, rules: Rules, now: datetime) -> None:
        self.rules = rules
        self.policy = rules.policy
        self.now = now
        self.now_text = as_text(now)
        self.customers = facts.customers
        self.wallets: dict[str, Wallet] = {}
        self.positions: dict[str, Position] = {}
        self.cases: dict[UUID, Case] = {}
        self._wallets: dict[str, dict[str, Wallet]] = {}
        self._positions: dict[str, dict[str, Position]] = {}
        self._cases: dict[str, dict[UUID, Case]] = {}
        self._about: dict[str, dict[UUID, Case]] = {}
        for wallet in facts.wallets.values():
            self.learn_wallet(wallet)
        for position in facts.positions.values():
            self.learn_position(position)
        for case in facts.cases.values():
            self._learn_case(case)
        self.answers = facts.answers
        self.applications = facts.applications
        self.reopenings = facts.reopenings
        self.changed: dict[UUID, Case] = {}
        self.changed_reopenings: dict[UUID, Reopening] = {}
        self.steps: list[Step] = []
        self.answered: dict[AnswerKey, Answer] = {}
        self.applied: dict[UUID, Application] = {}
        """What applicants say now, to be sealed."""
        self.erased: set[str] = set()
        self.changed_customers: dict[str, Customer] = {}
        self.outgoing: list[Outgoing] = []
        self.timers: dict[TimerKey, Timer | None] = {}

    # --- What is known of a customer ---

    def customer_of(self, case: Case) -> Customer:
        """Return whose case it is; only asked once that is known."""
        return self.customers[case.customer_id or ""]

    def positions_of(self, customer_id: str) -> Iterable[Position]:
        """Return what a customer has on loan and card, whether or not anything is owed."""
        return self._positions.get(customer_id, {}).values()

    def wallets_of(self, customer_id: str) -> Iterable[Wallet]:
        """Return a customer's wallets, closed ones too."""
        return self._wallets.get(customer_id, {}).values()

    def cases_of(self, customer_id: str) -> list[Case]:
        """Return a customer's cases: those that have not ended or forgotten them, and others that the batch names."""
        return list(self._cases.get(customer_id, {}).values())

    def open_case_of(self, subject: str) -> Case | None:
        """Return the case about a wallet or loan that has not ended."""
        return next((one for one in self._about.get(subject, {}).values() if one.status not in ENDED), None)

    def asking(self, subject: str, customer_id: str, report_id: UUID) -> Case | None:
        """Return the case about a wallet, or another of its customer's, that asked for a report."""
        may_ask = [*self._about.get(subject, {}).values(), *self._cases.get(customer_id, {}).values()]
        return next((one for one in may_ask if one.report_id == report_id), None)

    def closing_of(self, subject: str) -> Case | None:
        """Return the latest closing of a wallet or loan, unless it was undone; of subjects that are asked for."""
        closed = [one for one in self._about.get(subject, {}).values() if one.status == Status.CLOSED]
        latest = max(closed, key=lambda one: (one.ended_at or one.received_at, one.case_id), default=None)
        return None if latest is None or self.is_undone(latest) else latest

    def is_undone(self, case: Case) -> bool:
        """Whether what a case closed was opened again."""
        return any(
            one.case_id == case.case_id and one.status == ReopeningStatus.REOPENED for one in self.reopenings.values()
        )

    def pending_reopenings_of(self, customer_id: str) -> list[Reopening]:
        """Return a customer's applications to come back that wait for an answer."""
        return [one for one in self.reopenings.values() if one.customer_id == customer_id and one.is_pending]

    def reopened_loans_of(self, customer_id: str) -> list[str]:
        """Return a customer's loans that were opened again and not closed since; nothing may be owed on them yet."""
        reopened = [one for one in self.reopenings.values() if one.status == ReopeningStatus.REOPENED]
        mine = {one.subject for one in reopened if one.customer_id == customer_id}
        return [one for one in mine if one.startswith(f"{Subject.LOAN}:") and self.closing_of(one) is None]

    def is_busy(self, customer_id: str) -> bool:
        """Whether anything about a customer is still to be decided or done."""
        return any(one.status not in ENDED for one in self.cases_of(customer_id)) or bool(
            self.pending_reopenings_of(customer_id)
        )

    def learn_position(self, position: Position) -> None:
        """Take note of what somebody owes now."""
        self.forget_position(position.obligation_id)
        self.positions[position.obligation_id] = position
        self._positions.setdefault(position.customer_id, {})[position.obligation_id] = position

    def forget_position(self, obligation_id: str) -> None:
        """Take note that a position is published no more."""
        before = self.positions.pop(obligation_id, None)
        if before is not None:
            self._positions[before.customer_id].pop(obligation_id, None)

    def learn_wallet(self, wallet: Wallet) -> None:
        """Take note of how a wallet stands, unless something later is known."""
        before = self.wallets.get(wallet.account_id)
        if before is not None:
            if before.version >= wallet.version:
                return
            self._wallets[before.customer_id].pop(wallet.account_id, None)
        self.wallets[wallet.account_id] = wallet
        self._wallets.setdefault(wallet.customer_id, {})[wallet.account_id] = wallet

    def _learn_case(self, case: Case) -> None:
        self.cases[case.case_id] = case
        self._about.setdefault(case.subject, {})[case.case_id] = case
        if case.customer_id is not None:
            self._cases.setdefault(case.customer_id, {})[case.case_id] = case

    def application_of(self, case: Case) -> Application:
        """Return what an applicant said; of a case that a clearance began, nothing."""
        return self.applications.get(case.case_id) or Application()

    # --- A case's steps ---

    def enter(self, case: Case, status: Status, why: str | None = None) -> None:
        """Take a case one step on; `why` is one of the codes that reviewers and operators read.

        Raises:
            AssertionError: No such step may follow; a bug, which the database would refuse, too.
        """
        previous = case.status if case.step_count else None
        if previous is not None and status not in TRANSITIONS.get(Status(previous), frozenset()):
            raise AssertionError(f"a case cannot go from {previous} to {status}")
        case.status = status
        case.step_count += 1
        if status in ENDED:
            case.ended_at = self.now
            if case.customer_id is None:
                # It is nobody's, so that no erasure would find what was said.
                case.sealed = case.wrapped_key = None
                self.applied.pop(case.case_id, None)
        self.change(case)
        self.steps.append(Step(case.case_id, case.step_count, previous, status, why, None, None, None, self.now))

    def say(self, lane: Lane, case: Case, type_: str, **extra: Any) -> None:
        """Make the next event of a case: it belongs to the step just taken."""
        case.revision += 1
        case.event_type = type_
        case.occurred_at = self.now
        body = {"case_id": str(case.case_id), "subject": case.subject}
        body |= {} if case.customer_id is None else {"customer_id": case.customer_id}
        extra = {name: value for name, value in extra.items() if value is not None}
        case.event_body = orjson.dumps({**body, "revision": case.revision, "occurred_at": self.now_text, **extra})
        self.change(case)
        self._note(case)
        self.publish_case(lane, case)

    def _note(self, case: Case) -> None:
        step = self.steps[-1] if self.steps else None
        if step is None or step.case_id != case.case_id or step.revision is not None:
            case.step_count += 1
            step = Step(case.case_id, case.step_count, case.status, case.status, None, None, None, None, self.now)
        else:
            self.steps.pop()
        self.steps.append(step._replace(revision=case.revision, event_type=case.event_type, event_body=case.event_body))

    def note(self, case: Case, why: str) -> None:
        """Write down what happened to a case that stays where it stands."""
        case.step_count += 1
        self.steps.append(
            Step(case.case_id, case.step_count, case.status, case.status, why, None, None, None, self.now)
        )
        self.change(case)

    def change(self, case: Case) -> None:
        """Have a case recorded."""
        self._learn_case(case)
        self.changed[case.case_id] = case

    def publish_case(self, lane: Lane, case: Case) -> None:
        """Publish the latest event of a case, again for whoever asks again."""
        self.publish(lane, case.subject, case.case_id, case)

    def publish(self, lane: Lane, key: str, id_: UUID, about: Case | Reopening | Clearance) -> None:
        """Publish the latest event of what has an id and counts its changes."""
        # Publishers choose these ids, and may use one for a case and an application: no event of theirs is a repeat.
        kind = type(about).__name__.lower()
        headers = encode_headers(
            about.event_type,
            id=event_id(kind, id_, about.revision),
            source=SOURCE,
            time=as_text(about.occurred_at or self.now),
            subject=str(id_),
            correlation_id=about.correlation_id,
            traceparent=about.traceparent,
        )
        self.outgoing.append(Outgoing(lane, EVENTS, key.encode(), about.event_body, headers))

    def order(self, lane: Lane, case: Case, type_: str, id_: str, body: Mapping[str, Any]) -> None:
        """Order something of the transfer service for a case."""
        headers = encode_headers(
            type_,
            id=id_,
            source=SOURCE,
            time=self.now_text,
            subject=str(case.case_id),
            correlation_id=case.correlation_id,
            traceparent=case.traceparent,
        )
        value = orjson.dumps({**body, "case_id": str(case.case_id)})
        self.outgoing.append(Outgoing(lane, "transfer.commands", case.subject.encode(), value, headers))

    def send(
        self, lane: Lane, topic: str, type_: str, id_: str, body: Mapping[str, Any], subject: str, cause: Caused
    ) -> None:
        """Publish what is no event of a case; its subject is its key."""
        headers = encode_headers(
            type_,
            id=id_,
            source=SOURCE,
            time=self.now_text,
            subject=subject,
            correlation_id=cause.correlation_id,
            traceparent=cause.traceparent,
        )
        self.outgoing.append(Outgoing(lane, topic, subject.encode(), orjson.dumps(body), headers))

    def apply(self, case: Case, application: Application) -> None:
        """Keep what an applicant says now, in place of what they said before."""
        self.applications[case.case_id] = self.applied[case.case_id] = application

    # --- Commands ---

    def refuse(self, message: Message, refusal: Refusal, told: Case | None = None) -> None:
        """Answer a command that cannot be done; whatever it is about stays as it is. Of `told`, the customer hears."""
        names = ("case_id", "request_id", "clearance_id", "subject")
        about = {name: str(value) for name in names if (value := getattr(message.data, name, None)) is not None}
        retryable = CLOSURE_REFUSALS[refusal.code] and not refusal.is_final
        reason: dict[str, Any] = {"code": refusal.code, "retryable": retryable}
        reason |= {name: value for name in ("field", "detail") if (value := getattr(refusal, name)) is not None}
        body = {"command_type": message.type, "command_id": message.id, **about, "reason": reason}
        if told is not None and told.customer_id is not None:
            body |= {"customer_id": told.customer_id, "subject": told.subject}
        headers = encode_headers(
            "closure.command_refused",
            id=refusal_id(message),
            source=SOURCE,
            time=self.now_text,
            subject=next(iter(about.values()), message.id),
            correlation_id=message.correlation_id,
            traceparent=message.traceparent,
        )
        key = message.key if message.key is not None and len(message.key) <= _LONGEST_KEY else None
        value = orjson.dumps({**body, "occurred_at": self.now_text})
        self.outgoing.append(Outgoing(message.lane, EVENTS, key, value, headers))

    def decide_once(self, message: Message, decide: Callable[[Book, Message, Any], None]) -> None:
        """Decide a command without an id of its own; one that was decided before is answered as it was then."""
        data: Any = message.data
        key = AnswerKey(message.source, message.id)
        content_hash = self.hash_content(message.type, data)
        known = self.answers.get(key)
        if known is None:
            before = len(self.outgoing)
            decide(self, message, data)
            said = [one for one in self.outgoing[before:] if one.topic == EVENTS]
            answer = self._answer(key, content_hash, said[0] if said else None)
            self.answers[key] = self.answered[key] = answer
        elif known.content_hash != content_hash:
            self.refuse(message, Refusal("duplicate_id_conflict", "ce_id"))
        elif known.type is not None and known.event_id is not None and known.subject is not None:
            headers = encode_headers(
                known.type,
                id=known.event_id,
                source=SOURCE,
                time=as_text(known.occurred_at),
                subject=known.subject,
                correlation_id=known.correlation_id,
                traceparent=known.traceparent,
            )
            self.outgoing.append(Outgoing(message.lane, EVENTS, known.message_key, known.body, headers))

    def _answer(self, key: AnswerKey, content_hash: bytes, said: Outgoing | None) -> Answer:
        if said is None:
            return Answer(key, content_hash, None, None, None, None, None, self.now)
        type_, event_id = identity_of(said)
        headers = {name: value.decode() for name, value in said.headers if value is not None}
        traces = (headers.get("ce_correlationid"), headers.get("traceparent"))
        return Answer(
            key, content_hash, said.key, type_, event_id, headers["ce_subject"], said.value, self.now, *traces
        )

    def hash_content(self, type_: str, data: BaseModel) -> bytes:
        """Return the keyed hash of what a command says: equal commands, equal hashes, whatever their spelling."""
        said = data.model_dump(mode="json", exclude_defaults=True)
        return self.rules.hashes.content(type_.encode() + orjson.dumps(said, option=orjson.OPT_SORT_KEYS))

    # --- Timers ---

    def set_timer(self, lane: Lane, kind: str, subject: object, due_at: datetime) -> None:
        """Ask to be called at a moment; a timer of the same kind and subject is moved."""
        key = TimerKey(kind, str(subject))
        self.timers[key] = Timer(lane, key.kind, key.subject, due_at)

    def clear_timers(self, subject: object, kinds: Iterable[str]) -> None:
        """Ask not to be called any more."""
        for kind in kinds:
            self.timers[TimerKey(kind, str(subject))] = None
