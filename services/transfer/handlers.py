"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final

from schemas.customer import CustomerProfile, erased_customer
from schemas.erasure import CustomerErase
from services.runtime.erasing import erased, retain
from services.runtime.idle import make_beside
from services.runtime.message import Effects, Lane, Timer, Unfit
from services.runtime.metrics import MIS_KEYED
from services.transfer import store
from services.transfer.decide.closing import say_drained
from services.transfer.decide.dispatch import decide_message, decide_timer
from services.transfer.decide.drafts import draft_message
from services.transfer.decide.ledger import Ledger
from services.transfer.decide.risks import read_risks
from services.transfer.decide.subjects import subjects_of
from services.transfer.decide.windows import read_waiver, read_window
from services.transfer.model import FORGET_TIMER, RELEASE_TIMER, Hold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import TypeAlias
    from uuid import UUID

    from services.runtime.database import Connection
    from services.runtime.message import Batch, Message
    from services.transfer.decide.gate import Gate
    from services.transfer.decide.ledger import Facts
    from services.transfer.decide.rules import Rules
    from services.transfer.decide.subjects import Subjects
    from services.transfer.model import Transfer
    from services.transfer.store import BatchStore

    _Drafted: TypeAlias = tuple[Message, Transfer | None]

_ERASED_KEPT: Final = timedelta(days=410)
"""Longer than anything on `maintenance.events` can be read: 400 days, and what brokers take to remove it."""
LANES: Final = "wallet"
"""The group of the lanes in which transfers are decided."""

# A large batch is decided in up to four parts, so that most of it is loaded and written while others are decided.
_PARTS: Final = 4
# Messages decided in one go while the database is at work, two milliseconds' work.
_SLICE: Final = 64


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the handlers need besides their batch."""

    rules: Rules
    master_key: bytes
    smallest_part: int = 200
    """How many messages are worth being loaded and written while others are decided."""
    released_at_once: int = 120
    """How many transfers that a window held go on in one batch: as few as new ones hardly notice."""
    drained_at_once: int = 120
    """How many transfers that wait in wallets that are closing are cancelled in one batch."""
    reported_at_once: int = 300
    """Of how many wallets a report of all tells in one batch."""

    async def on_commands_and_results(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Handle commands, banks' answers and timers of the same lanes, in their order."""
        parts = _parts(batch.messages, self.smallest_part)
        subjects = subjects_of(parts, batch.timers)
        # Before the accounts are locked, because no other batch about them goes on until this one is committed.
        facts, drafted = await make_beside(
            self._load(connection, subjects, batch.timers, now), _draft(parts, self.rules, now)
        )
        ledger = Ledger(facts, self.rules, now)
        async with store.BatchStore(connection, ledger, subjects, self.master_key) as batch_store:
            for number, part in enumerate(drafted):
                batch_store.begin(number)
                await _decide(ledger, part, batch_store)
                await batch_store.finish()
            for timer in batch.timers:
                decide_timer(ledger, timer)
            say_drained(ledger)
        for topic, count in ledger.mis_keyed.items():
            MIS_KEYED.labels(topic).inc(count)
        return Effects.of(ledger.outgoing, ledger.timers, batch_store.recording)

    async def _load(self, connection: Connection, subjects: Subjects, timers: Sequence[Timer], now: datetime) -> Facts:
        gate = await store.load_gate(connection, now)
        releasing = await self._releasing(connection, gate, timers)
        draining = await store.load_draining(connection, subjects.draining, self.drained_at_once)
        subjects.transfers.update(chain.from_iterable(releasing.values()), chain.from_iterable(draining.values()))
        subjects.transfers.update(await store.load_own_waiting(connection, subjects.reinstated))
        facts = await store.load_facts(connection, subjects, self.master_key)
        facts.gate, facts.releasing, facts.draining = gate, releasing, draining
        facts.draining_is_full = sum(map(len, draining.values())) >= self.drained_at_once
        facts.reports, facts.slices = await store.load_reports(connection, subjects.reports, self.reported_at_once)
        return facts

    async def _releasing(self, connection: Connection, gate: Gate, timers: Sequence[Timer]) -> dict[Hold, list[UUID]]:
        holds = {Hold.of(timer.subject): None for timer in timers if timer.kind == RELEASE_TIMER}
        opened = [hold for hold in holds if hold.window_id not in gate.closed]
        return await store.load_held(connection, opened, self.released_at_once)

    async def on_windows(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Keep this service's copy of the windows, and look at what they hold when it may go on."""
        changes = [change for message in batch.messages if (change := read_window(message.type, message.data))]
        waivers = [waiver for message in batch.messages if (waiver := read_waiver(message.data))]
        if waivers:
            await store.share_customers(connection)
        changed = await store.record_windows(connection, changes)
        await store.record_waivers(connection, waivers)
        timers = [
            Timer(
                Lane(LANES, hold.partition),
                RELEASE_TIMER,
                hold.subject_after(changed[hold.window_id]),
                max(due_at, now),
            )
            for hold, due_at in (await store.load_holds(connection, changed, now)).items()
        ]
        return Effects(timers_set=timers)

    async def on_risks(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Keep whom a risk flag restricts, and until when."""
        await store.record_flags(connection, read_risks([message.data for message in batch.messages], now), now)
        return Effects()

    async def on_profiles(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Keep the hash of each holder's name; a tombstone forgets them, and is unfit if its key is nobody's.

        A profile that follows it is somebody new.
        """
        if batch.timers:
            return await self._forget_erased(connection, batch.timers)
        hashes: dict[str, bytes] = {}
        asked: list[tuple[Message, str]] = []
        unfit: list[Unfit] = []
        for message in batch.messages:
            if isinstance(message.data, CustomerProfile):
                hashes[message.data.customer_id] = self.rules.hash_name(message.data.name)
                continue
            try:
                customer_id = erased_customer(message.key)
            except ValueError as error:
                unfit.append(Unfit(message, str(error)))
                continue
            asked.append((message, customer_id))
            hashes.pop(customer_id, None)
        effects = await self._erase(connection, asked, now)
        await store.record_holders(connection, hashes, now)
        return Effects(outgoing=effects.outgoing, timers_set=effects.timers_set, unfit=unfit)

    async def on_erasures(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Forget customers whose closing has come that far, and say so."""
        if batch.timers:
            return await self._forget_erased(connection, batch.timers)
        asked = [
            (message, message.data.customer_id) for message in batch.messages if isinstance(message.data, CustomerErase)
        ]
        return await self._erase(connection, asked, now)

    async def _erase(self, connection: Connection, asked: Sequence[tuple[Message, str]], now: datetime) -> Effects:
        await store.erase_customers(connection, {customer_id for _, customer_id in asked}, now)
        until = now + timedelta(days=self.rules.policy.retention.transfers_kept_days)
        retained = [
            retain("transfers", "accounting_law", until),
            retain(
                "that they were erased, under their customer id",
                "late news of what they need not pay must not bring them back",
                now + _ERASED_KEPT,
            ),
        ]
        answers = [
            erased(
                message.lane,
                message.id,
                customer_id,
                "transfer",
                retained,
                now,
                message,
                getattr(message.data, "case_id", None),
            )
            for message, customer_id in asked
        ]
        timers = [Timer(message.lane, FORGET_TIMER, customer_id, now + _ERASED_KEPT) for message, customer_id in asked]
        return Effects(outgoing=answers, timers_set=timers)

    async def _forget_erased(self, connection: Connection, due: Sequence[Timer]) -> Effects:
        """Forget that customers were erased: no late news of them can come any more."""
        await store.forget_erased(connection, [timer.subject for timer in due])
        return Effects()


def _parts(messages: Sequence[Message], smallest: int) -> list[Sequence[Message]]:
    count = max(1, min(_PARTS, len(messages) // smallest))
    size = max(1, math.ceil(len(messages) / count))
    return [messages[start : start + size] for start in range(0, len(messages), size)] or [()]


async def _draft(parts: Sequence[Sequence[Message]], rules: Rules, now: datetime) -> list[list[_Drafted]]:
    drafted: list[list[_Drafted]] = []
    for part in parts:
        drafted.append([])
        for number, message in enumerate(part):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            drafted[-1].append((message, draft_message(message, rules, now)))
    return drafted


async def _decide(ledger: Ledger, messages: Sequence[_Drafted], batch_store: BatchStore) -> None:
    for number, (message, draft) in enumerate(messages, 1):
        decide_message(ledger, message, draft)
        if number % _SLICE == 0 and batch_store.is_busy:
            await asyncio.sleep(0)
