"""The picture of a batch's facts that its decisions read and change, and what has to be recorded afterwards."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import orjson

from schemas.envelope import encode_headers
from schemas.fields import as_text
from schemas.reasons import REASONS
from schemas.registry import TOPICS
from services.runtime.calendar import business_date
from services.runtime.message import Cause, Outgoing, Timer, TimerKey, identity_of, refusal_id
from services.transfer.decide.gate import Gate
from services.transfer.model import (
    OPEN_END,
    RELEASE_TIMER,
    Account,
    AccountEvent,
    AccountStatus,
    Answer,
    AnswerKey,
    ClosedWindow,
    Drain,
    Hold,
    Movement,
    Refund,
    Refusal,
    Report,
    Status,
    Step,
    Tally,
    Transfer,
    Waiver,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.runtime.message import Caused, Lane, Message
    from services.transfer.decide.rules import Rules
    from services.transfer.policy import Tier

SOURCE: Final = "sluice/transfer"
EVENTS: Final = "transfer.events"
STATES: Final = "account.states"
INSTRUCTIONS: Final = "rail.instructions"
_LONGEST_KEY: Final = 1_024
"""An answer does not carry a key that is none of the contract's: no broker would take it."""
_LONGEST_DETAIL: Final = 2_000
_LOOK_AGAIN: Final = timedelta(seconds=30)


@dataclass(slots=True)
class Facts:
    """What the database knew of a batch's subjects when it was loaded."""

    accounts: dict[str, Account] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where the accounts' rows lie (page and row in it), for who writes them."""
    account_events: dict[str, AccountEvent] = field(default_factory=dict)
    transfers: dict[UUID, Transfer] = field(default_factory=dict)
    refunds: dict[UUID, Refund] = field(default_factory=dict)
    answers: dict[AnswerKey, Answer] = field(default_factory=dict)
    holders: dict[str, bytes] = field(default_factory=dict)
    payee_names: dict[UUID, str] = field(default_factory=dict)
    forgotten_names: set[UUID] = field(default_factory=set)
    gate: Gate = field(default_factory=lambda: Gate((), OPEN_END))
    waivers: dict[str, list[Waiver]] = field(default_factory=dict)
    """By customer, the first to expire at first."""
    flags: dict[str, datetime] = field(default_factory=dict)
    """Until when customers are restricted by a risk flag."""
    releasing: dict[Hold, list[UUID]] = field(default_factory=dict)
    """What windows that are not in force any more hold, the next of each lane, in its order."""
    drains: dict[str, Drain] = field(default_factory=dict)
    """Wallets that are closing or are asked to, and whether transfers of them wait that the batch is not about."""
    draining: dict[str, list[UUID]] = field(default_factory=dict)
    """What waits in wallets that are closing, as much of it as one batch cancels."""
    draining_is_full: bool = False
    reports: dict[UUID, Report] = field(default_factory=dict)
    slices: dict[UUID, list[Account]] = field(default_factory=dict)
    """The wallets that each report tells of next; none when it has told of all."""


@dataclass(slots=True)
class Savepoint:
    """Where a ledger can go back to when an atomic batch fails."""

    accounts: dict[str, Account]
    transfers: frozenset[UUID]
    lengths: tuple[int, ...]
    timers: dict[TimerKey, Timer | None]
    touched: dict[str, Account]
    states: dict[str, AccountEvent]
    account_events: dict[str, AccountEvent]
    held: dict[UUID, Hold | None]
    tallies: dict[Hold, Tally]
    waived: dict[UUID, int]
    drains: dict[str, Drain]


class Recordable(NamedTuple):
    """What can be recorded while later messages of the batch are decided: nothing takes it back."""

    transfers: dict[UUID, Transfer]
    steps: list[Step]
    movements: list[Movement]


class Ledger:
    """The facts of a batch, changed in memory so that its second debit sees its first.

    Everything to be recorded collects here: `opened`, `touched`, `reconfigured`, `restated`, `created`, `changed`,
    `steps`, `movements`, `refunds_made`, `refunds_changed`, `answered`, `states`, `held`, `tallies`, `waived`,
    `reports_changed`; `outgoing` and `timers` go to the runtime.
    """

    def __init__(self, facts: Facts, rules: Rules, now: datetime) -> None:
        self.rules = rules
        self.policy = rules.policy
        self.now = now
        self.now_text = as_text(now)
        self.today = business_date(now)
        self.accounts = facts.accounts
        self.places = facts.places
        self.account_events = facts.account_events
        self.transfers = facts.transfers
        self.refunds = facts.refunds
        self.answers = facts.answers
        self.holders = facts.holders
        self.payee_names = facts.payee_names
        self.forgotten_names = facts.forgotten_names
        self.gate = facts.gate
        self.waivers = facts.waivers
        self.flags = facts.flags
        self.releasing = facts.releasing
        self.draining = facts.draining
        self.draining_is_full = facts.draining_is_full
        self.reports = facts.reports
        self.slices = facts.slices
        self.drains: dict[str, Drain] = {}
        self.opened: dict[str, Account] = {}
        self.touched: dict[str, Account] = {}
        self.reconfigured: dict[str, Account] = {}
        self.restated: dict[str, Account] = {}
        self.created: dict[UUID, Transfer] = {}
        self.changed: dict[UUID, Transfer] = {}
        self.steps: list[Step] = []
        self.movements: list[Movement] = []
        self.platform: list[tuple[str, str, int, int]] = []
        self.refunds_made: dict[UUID, Refund] = {}
        self.refunds_changed: dict[UUID, Refund] = {}
        self.answered: dict[AnswerKey, Answer] = {}
        self.states: dict[str, AccountEvent] = {}
        self.held: dict[UUID, Hold | None] = {}
        self.tallies: dict[Hold, Tally] = {}
        self.waived: dict[UUID, int] = {}
        self.reports_changed: dict[UUID, Report | None] = {}
        self.outgoing: list[Outgoing] = []
        self.timers: dict[TimerKey, Timer | None] = {}
        self.mis_keyed: Counter[str] = Counter()
        self.cause: Caused = Cause()
        """What is decided now, and what follows from it: a message, or a transfer that goes on."""
        self._learn_drains(facts.drains)

    def learn(self, facts: Facts) -> None:
        """Add what the accounts of messages still to be decided are; none that was learnt before is among them."""
        self.accounts.update(facts.accounts)
        self.places.update(facts.places)
        self.holders.update(facts.holders)
        self.account_events.update(facts.account_events)
        self.answers.update(facts.answers)
        self.flags.update(facts.flags)
        for customer_id, waivers in facts.waivers.items():
            # What an earlier part has loaded, it may have used.
            self.waivers.setdefault(customer_id, waivers)
        self._learn_drains(facts.drains)

    def _learn_drains(self, drains: Mapping[str, Drain]) -> None:
        if not drains:
            return
        self.drains.update(drains)
        for transfer in self.transfers.values():
            if (drain := self.drains.get(transfer.waiting_of or "")) is not None:
                drain.waiting.add(transfer.transfer_id)

    def tier_of(self, account: Account) -> Tier:
        """Return the policy of an account's tier; one that the policy no longer has counts as standard."""
        return self.policy.tiers.get(account.tier) or self.policy.tiers["standard"]

    def tier_for(self, transfer: Transfer, payer: Account) -> Tier:
        """Return the policy that a transfer is measured by: a closing's own knows no limits, fees or verification."""
        # Most transfers have no case, and are told from a closing's at once.
        if transfer.case_id is not None and self.is_closings_own(transfer):
            return self.policy.tiers["unlimited"]
        return self.tier_of(payer)

    def is_closings_own(self, transfer: Transfer) -> bool:
        """Tell whether a transfer is made for the very case that its payer is being closed for."""
        if transfer.case_id is None:
            return False
        payer = self.accounts.get(transfer.payer)
        return payer is not None and payer.status == AccountStatus.CLOSING and payer.case_id == transfer.case_id

    # --- Money ---

    def move(self, lane: Lane, transfer: Transfer, purpose: str, amount_minor: int, debit: str, credit: str) -> None:
        """Move money between two parties; a bank's part is booked on its settlement account."""
        debit_number = debit_after = credit_number = credit_after = None
        if debit.startswith("wallet:"):
            payer = self.accounts[debit]
            payer.posted_minor = debit_after = payer.posted_minor - amount_minor
            payer.entry_count = debit_number = payer.entry_count + 1
            self.touched[debit] = payer
        else:
            debit = book_of(debit)
            self.platform.append((debit, transfer.currency, lane.partition, -amount_minor))
        if credit.startswith("wallet:"):
            payee = self.accounts[credit]
            payee.posted_minor = credit_after = payee.posted_minor + amount_minor
            payee.entry_count = credit_number = payee.entry_count + 1
            self.touched[credit] = payee
        else:
            credit = book_of(credit)
            self.platform.append((credit, transfer.currency, lane.partition, amount_minor))
        if self.drains:
            self.note_drain(lane, debit)
            self.note_drain(lane, credit)
        self.movements.append(
            Movement(
                transfer.transfer_id,
                purpose,
                transfer.currency,
                amount_minor,
                debit,
                debit_number,
                debit_after,
                credit,
                credit_number,
                credit_after,
                self.now,
            )
        )

    def reserve(self, lane: Lane, account_id: str, amount_minor: int) -> None:
        """Set money of a wallet aside, or with a negative amount free it."""
        account = self.accounts[account_id]
        account.reserved_minor += amount_minor
        self.touched[account_id] = account
        if self.drains:
            self.note_drain(lane, account_id)

    def watch_balance(self, lane: Lane, *account_ids: str) -> None:
        """Warn a holder whose balance fell below their threshold, once a crossing; of a closing that is no news."""
        for account_id in account_ids:
            account = self.accounts.get(account_id)
            if account is None or account.low_balance_threshold_minor is None or account.status != AccountStatus.OPEN:
                continue
            is_low = account.available_minor < account.low_balance_threshold_minor
            if is_low and not account.low_balance_warned:
                threshold = account.low_balance_threshold_minor
                self.announce_account(lane, account, "account.low_balance", {"threshold_minor": threshold})
            account.low_balance_warned = is_low

    # --- Closing ---

    def note_drain(self, lane: Lane, account_id: str) -> None:
        """Note that a wallet that may be closing changed: at the end of the batch it may be drained."""
        if (drain := self.drains.get(account_id)) is not None:
            drain.changed_in = lane

    def _follow_waiting(self, lane: Lane, transfer: Transfer, waited_of: str | None) -> None:
        waiting_of = transfer.waiting_of
        if waiting_of == waited_of:
            return
        if (drain := self.drains.get(waited_of or "")) is not None:
            drain.waiting.discard(transfer.transfer_id)
            drain.changed_in = lane
        if (drain := self.drains.get(waiting_of or "")) is not None:
            drain.waiting.add(transfer.transfer_id)

    def restate(self, lane: Lane, account: Account, type_: str, status: str, case_id: UUID) -> None:
        """Take an account to another status for a case, and say so; while it is open, it has none."""
        account.status = status
        account.case_id = None if status == AccountStatus.OPEN else case_id
        self.restated[account.account_id] = account
        self.announce_account(lane, account, type_, {"case_id": str(case_id)})
        self.note_drain(lane, account.account_id)

    # --- Maintenance ---

    def hold(self, lane: Lane, transfer: Transfer, window: ClosedWindow) -> None:
        """Have a transfer wait for a window's end, after those of its lane that wait already."""
        hold = Hold(window.window_id, lane.partition)
        self.held[transfer.transfer_id] = hold
        self.tally(hold).held += 1
        self.look_for_release(lane, hold, window.ends_at)

    def look_for_release(self, lane: Lane, hold: Hold, at: datetime) -> None:
        """Ask to be called when what a window holds in a lane may go on; a window whose end is past is looked at again.

        Whatever changes a window asks anew, so this is only how long an accident could keep a transfer waiting.
        """
        due_at = at if at > self.now else self.now + _LOOK_AGAIN
        self.set_timer(lane, RELEASE_TIMER, hold.subject, due_at)

    def tally(self, hold: Hold) -> Tally:
        """Return what a window did to transfers of a lane in this batch, to be counted on."""
        return self.tallies.setdefault(hold, Tally())

    def waiver_for(self, customer_id: str | None) -> Waiver | None:
        """Return what lets a customer pay no fee now."""
        waivers = self.waivers.get(customer_id or "", ())
        return next((waiver for waiver in waivers if waiver.remaining and waiver.expires_at > self.now), None)

    def waive_fee(self, lane: Lane, transfer: Transfer, waiver: Waiver, fee_minor: int) -> None:
        """Use up a waiver for a transfer that would have cost a fee."""
        waiver.remaining -= 1
        self.waived[waiver.compensation_id] = self.waived.get(waiver.compensation_id, 0) + 1
        body = {
            "transfer_id": str(transfer.transfer_id),
            "customer_id": waiver.customer_id,
            "window_id": str(waiver.window_id),
            "compensation_id": str(waiver.compensation_id),
            "fee_minor": fee_minor,
            "currency": transfer.currency,
            "occurred_at": self.now_text,
        }
        self._say_of(lane, EVENTS, transfer, "fee.waived", f"{transfer.transfer_id}.waived", body)

    # --- Events ---

    def advance(
        self, lane: Lane, transfer: Transfer, type_: str, status: str, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Make the next event of a transfer: one change, one event, one number in `seq`."""
        if transfer.seq:
            self.steps.append(
                Step(
                    transfer.transfer_id,
                    transfer.seq,
                    transfer.event_type,
                    transfer.event_body,
                    transfer.occurred_at,
                )
            )
            if transfer.transfer_id not in self.created:
                self.changed[transfer.transfer_id] = transfer
        else:
            self.transfers[transfer.transfer_id] = self.created[transfer.transfer_id] = transfer
        if transfer.status == Status.HELD and status != Status.HELD:
            self.held[transfer.transfer_id] = None
        waited_of = transfer.waiting_of if self.drains else None
        transfer.seq += 1
        transfer.status = status
        if self.drains:
            self._follow_waiting(lane, transfer, waited_of)
        transfer.event_type = type_
        transfer.occurred_at = self.now
        transfer_id = id_text(transfer.transfer_id)
        transfer.event_body = orjson.dumps(self._transfer_body(transfer_id, transfer, extra))
        self._publish(lane, transfer_id, transfer)

    def _transfer_body(self, transfer_id: str, transfer: Transfer, extra: Mapping[str, Any] | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "transfer_id": transfer_id,
            "seq": transfer.seq,
            "kind": transfer.kind,
            "payer": transfer.payer,
            "payee": transfer.payee,
            "amount_minor": transfer.amount_minor,
            "fee_minor": transfer.fee_minor,
            "currency": transfer.currency,
            "status": transfer.status,
            "requested_at": self.now_text if transfer.requested_at is self.now else as_text(transfer.requested_at),
            "occurred_at": self.now_text,
        }
        if transfer.payer_customer_id is not None:
            body["payer_customer_id"] = transfer.payer_customer_id
        if transfer.payee_customer_id is not None:
            body["payee_customer_id"] = transfer.payee_customer_id
        if transfer.case_id is not None:
            body["case_id"] = str(transfer.case_id)
        payer = self.accounts.get(transfer.payer)
        if payer is not None:
            body["payer_available_minor"] = payer.posted_minor - payer.reserved_minor
        payee = self.accounts.get(transfer.payee)
        if payee is not None:
            body["payee_available_minor"] = payee.posted_minor - payee.reserved_minor
        if extra:
            body.update(extra)
        return body

    def publish_transfer(self, lane: Lane, transfer: Transfer) -> None:
        """Publish the latest event of a transfer again, to whoever asks again."""
        self._publish(lane, str(transfer.transfer_id), transfer)

    def _publish(self, lane: Lane, transfer_id: str, transfer: Transfer) -> None:
        headers = encode_headers(
            transfer.event_type,
            id=f"{transfer_id}.{transfer.seq}",
            source=SOURCE,
            time=self.now_text if transfer.occurred_at is self.now else as_text(transfer.occurred_at),
            subject=transfer_id,
            correlation_id=transfer.correlation_id,
            traceparent=transfer.traceparent,
        )
        self.outgoing.append(Outgoing(lane, EVENTS, transfer.key.encode(), transfer.event_body, headers))

    def announce_account(
        self, lane: Lane, account: Account, type_: str, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Make the next event of an account, and its state for those who keep a copy."""
        account.version += 1
        self.touched[account.account_id] = account
        body = orjson.dumps(state_of(account) | dict(extra or {}))
        cause = self.cause
        event = AccountEvent(
            account.account_id, account.version, type_, body, self.now, cause.correlation_id, cause.traceparent
        )
        self.account_events[account.account_id] = self.states[account.account_id] = event
        self.publish_account(lane, event)

    def publish_account(self, lane: Lane, event: AccountEvent) -> None:
        """Publish the latest event of an account; what changes its state also goes to those who keep a copy."""
        headers = encode_headers(
            event.type,
            id=f"{event.account_id}.{event.version}",
            source=SOURCE,
            time=as_text(event.occurred_at),
            subject=event.account_id,
            correlation_id=event.correlation_id,
            traceparent=event.traceparent,
        )
        key = event.account_id.encode()
        self.outgoing.append(Outgoing(lane, EVENTS, key, event.body, headers))
        if event.type in TOPICS[STATES]:
            self.outgoing.append(Outgoing(lane, STATES, key, event.body, headers))

    def instruct(self, lane: Lane, transfer: Transfer, type_: str, id_: str, body: Mapping[str, Any]) -> None:
        """Tell a bank's connector what to do; it answers with the same key."""
        self._say_of(lane, INSTRUCTIONS, transfer, type_, id_, body)

    def _say_of(
        self, lane: Lane, topic: str, transfer: Transfer, type_: str, id_: str, body: Mapping[str, Any]
    ) -> None:
        """Publish what is no change of a transfer, and follows from it."""
        headers = encode_headers(
            type_,
            id=id_,
            source=SOURCE,
            time=self.now_text,
            subject=str(body["transfer_id"]),
            correlation_id=transfer.correlation_id,
            traceparent=transfer.traceparent,
        )
        key = transfer.key.encode()
        self.outgoing.append(Outgoing(lane, topic, key, orjson.dumps(body), headers))

    def refuse(
        self,
        message: Message,
        refusal: Refusal,
        *,
        transfer: Transfer | None = None,
        transfer_id: UUID | None = None,
        account_id: str | None = None,
    ) -> Outgoing:
        """Answer a command that cannot be done to a transfer or an account that stays as it is."""
        subject = transfer.transfer_id if transfer else transfer_id
        body: dict[str, Any] = {
            "command_type": message.type,
            "command_id": message.id,
            "reason": as_reason(refusal),
            "occurred_at": self.now_text,
        }
        if subject is not None:
            body["transfer_id"] = str(subject)
        account_id = account_id or getattr(message.data, "account_id", None)
        if account_id is not None:
            body["account_id"] = account_id
        if (case_id := getattr(message.data, "case_id", None)) is not None:
            body["case_id"] = str(case_id)
        about = str(subject) if subject is not None else str(account_id)
        headers = encode_headers(
            "transfer.command_refused",
            id=refusal_id(message, about),
            source=SOURCE,
            time=self.now_text,
            subject=message.id if subject is None else str(subject),
            correlation_id=message.correlation_id,
            traceparent=message.traceparent,
        )
        key = transfer.key.encode() if transfer else message.key
        if key is not None and len(key) > _LONGEST_KEY:
            key = None
        answer = Outgoing(message.lane, EVENTS, key, orjson.dumps(body), headers)
        self.outgoing.append(answer)
        return answer

    def renew_answer(self, key: AnswerKey) -> None:
        """Have a repeat of a command answered with the event just made, which ended what the command began."""
        event = self.outgoing[-1]
        type_, event_id = identity_of(event)
        known = self.answers.get(key)
        content_hash = known.content_hash if known else b""
        answer = Answer(key, content_hash, event.key, type_, event_id, event.value, self.now)
        self.answers[key] = self.answered[key] = answer

    # --- Recording ---

    def take_final(self) -> Recordable:
        """Hand over what was collected until now, except transfers that wait with a payee's name.

        One that changes after it was handed over is found among `changed`.
        """
        kept = {id_: self.created.pop(id_) for id_ in self.payee_names.keys() & self.created.keys()}
        final = self.take_all()
        self.created = kept
        return final

    def take_all(self) -> Recordable:
        """Hand over all transfers, steps and movements that were collected until now."""
        taken = Recordable(self.created, self.steps, self.movements)
        self.created, self.steps, self.movements = {}, [], []
        return taken

    # --- Timers ---

    def set_timer(self, lane: Lane, kind: str, subject: object, due_at: datetime) -> None:
        """Ask to be called at a moment; a timer of the same kind and subject is moved."""
        key = TimerKey(kind, str(subject))
        self.timers[key] = Timer(lane, key.kind, key.subject, due_at)

    def clear_timer(self, kind: str, subject: object) -> None:
        """Ask not to be called any more."""
        self.timers[TimerKey(kind, str(subject))] = None

    # --- All or nothing ---

    def savepoint(self, account_ids: Sequence[str]) -> Savepoint:
        """Remember how things are before an atomic batch touches these accounts."""
        accounts = {id_: copy(self.accounts[id_]) for id_ in account_ids if id_ in self.accounts}
        return Savepoint(
            accounts,
            frozenset(self.created),
            self._lengths(),
            dict(self.timers),
            dict(self.touched),
            dict(self.states),
            dict(self.account_events),
            dict(self.held),
            {hold: replace(tally) for hold, tally in self.tallies.items()},
            dict(self.waived),
            {account_id: replace(drain, waiting=set(drain.waiting)) for account_id, drain in self.drains.items()},
        )

    def roll_back(self, savepoint: Savepoint) -> None:
        """Undo everything since a savepoint."""
        for account_id, before in savepoint.accounts.items():
            account = self.accounts[account_id]
            for name in Account.__slots__:
                setattr(account, name, getattr(before, name))
        for transfer_id in [id_ for id_ in self.created if id_ not in savepoint.transfers]:
            del self.created[transfer_id], self.transfers[transfer_id]
            self.payee_names.pop(transfer_id, None)
        for collected, length in zip(self._collections(), savepoint.lengths, strict=True):
            del collected[length:]
        self.timers = savepoint.timers
        self.touched = savepoint.touched
        self.states = savepoint.states
        self.account_events = savepoint.account_events
        self.held = savepoint.held
        self.tallies = savepoint.tallies
        for waiver in chain.from_iterable(self.waivers.values()):
            used = self.waived.get(waiver.compensation_id, 0) - savepoint.waived.get(waiver.compensation_id, 0)
            waiver.remaining += used
        self.waived = savepoint.waived
        self.drains = savepoint.drains

    def _collections(self) -> tuple[list[Any], ...]:
        return (self.steps, self.movements, self.platform, self.outgoing)

    def _lengths(self) -> tuple[int, ...]:
        return tuple(len(collected) for collected in self._collections())


def id_text(id_: UUID) -> str:
    """Return what `str` would, several times as fast: every event needs it."""
    # The driver's own class is quick by itself, and not known to orjson.
    return orjson.dumps(id_)[1:-1].decode() if type(id_) is UUID else str(id_)


def state_of(account: Account) -> dict[str, Any]:
    """Return how an account stands: the body of every event about it."""
    return {
        "account_id": account.account_id,
        "customer_id": account.customer_id,
        "currency": account.currency,
        "tier": account.tier,
        "status": account.status,
        "posted_minor": account.posted_minor,
        "reserved_minor": account.reserved_minor,
        "available_minor": account.available_minor,
        "version": account.version,
    }


def as_reason(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal as the contract's `reason`, with what the table of codes says of it."""
    entry = REASONS[refusal.code]
    reason: dict[str, Any] = {"code": refusal.code, "retryable": entry.retryable, "refund": entry.refund}
    if entry.iso20022 is not None:
        reason["iso20022"] = entry.iso20022
    if refusal.detail is not None:
        reason["detail"] = refusal.detail[:_LONGEST_DETAIL]
    for name in ("field", "shortfall_minor", "limit_minor"):
        value = getattr(refusal, name)
        if value is not None:
            reason[name] = value
    if refusal.available_at is not None:
        reason["available_at"] = as_text(refusal.available_at)
    return reason


def book_of(party: str) -> str:
    """Return the ledger account of a party: a bank's settlement account, or the platform account itself."""
    return ":".join(party.split(":", 2)[:2])
