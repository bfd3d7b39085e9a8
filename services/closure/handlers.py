"""One coroutine per kind of batch: load, decide, record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from schemas.account import AccountReleased, AccountReported, AccountState
from schemas.closure import AssessmentAnswered, ClosureReopen, ClosureRequest
from schemas.customer import CustomerProfile, erased_customer
from schemas.erasure import CustomerErased
from schemas.obligation import ObligationPosition
from schemas.risk import RiskFlagged
from schemas.transfer import TransferCommandRefused
from services.closure import clearance_store, clearances, store
from services.closure.decide import cases, commands, draining, outcomes, reopening, residue
from services.closure.decide.book import Book, Facts
from services.closure.decide.clearance import Clearances
from services.closure.decide.erasing import forget_again, forget_wanted, want_forgotten
from services.closure.identity import hash_profile
from services.closure.model import ASSESS_TIMER, RESIDUE_TIMER, AnswerKey, Position, Subject, Wallet
from services.runtime.message import Effects, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from services.closure.decide.book import Rules
    from services.closure.model import Case
    from services.runtime.database import Connection
    from services.runtime.message import Batch, Lane, Message, Timer

_UUID_LENGTH: Final = 36


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the handlers need besides their batch."""

    rules: Rules
    master_key: bytes

    async def on_commands(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Decide what applicants, reviewers and customers say of cases, operators of clearances, and what is due."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        known = await clearances.lock_named(connection, batch.messages)
        tallies = await clearances.tally_named(connection, batch.messages, known, now)
        book = await self._book(connection, _asked_by(batch.messages), now)
        desk = Clearances(book, known)
        for message in batch.messages:
            if message.type in clearances.COMMANDS:
                clearances.decide_command(desk, message, tallies)
            else:
                _decide_command(book, message)
        return await self._recorded(connection, book, desk=desk)

    async def on_transfers(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Go on with cases as the transfer service says how their wallets and payouts stand."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        asked_of = await clearances.Reports.lock(connection, batch.messages)
        messages = [message for message in batch.messages if not asked_of.has(message)]
        book = await self._said_of_cases(connection, messages, now)
        desk = await asked_of.take(connection, book, batch.messages)
        return await self._recorded(connection, book, desk=desk)

    async def _said_of_cases(self, connection: Connection, messages: Sequence[Message], now: datetime) -> Book:
        said = {id(message): case_id for message in messages if (case_id := _case_of(message)) is not None}
        asked = _asked_in(messages, said)
        if not asked.cases and not asked.subjects:
            return Book(Facts(), self.rules, now)
        book = await self._book(connection, asked, now)
        await store.record_wallets(connection, _wallets_in(messages, book))
        for message in messages:
            if isinstance(message.data, AccountReported | AccountReleased):
                _decide_told(book, message, message.data)
            elif id(message) in said and (case := book.cases.get(said[id(message)])) is not None:
                _decide_said(book, message, case)
        return book

    async def on_profiles(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Keep the hashes of profiles, and look again at the cases that waited for a better one."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        unfit: list[Unfit] = []
        said: list[tuple[Message, str]] = []
        for message in batch.messages:
            try:
                said.append((message, _customer_of(message)))
            except ValueError as error:
                unfit.append(Unfit(message, str(error)))
        book = await self._book(connection, store.Subjects(customers={customer_id for _, customer_id in said}), now)
        before = {customer_id: _person(book, customer_id) for _, customer_id in said}
        for message, customer_id in said:
            _take_profile(book, message, customer_id)
        for message, customer_id in said:
            for case in book.cases_of(customer_id):
                cases.look_at_profile(book, message.lane, case)
                if before[customer_id] != _person(book, customer_id):
                    cases.look_at_person(book, message.lane, case)
        effects = await self._recorded(connection, book)
        return Effects(effects.outgoing, effects.timers_set, effects.timers_cleared, unfit)

    async def on_positions(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Keep what customers owe, and stop the cases that it stands against."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        positions: dict[str, Position] = {}
        gone: dict[str, Lane] = {}
        unfit: list[Unfit] = []
        for message in batch.messages:
            data = message.data
            if isinstance(data, ObligationPosition):
                positions[data.obligation_id] = _position_of(data)
                gone.pop(data.obligation_id, None)
                continue
            try:
                id_ = (message.key or b"").decode()
            except UnicodeDecodeError:
                unfit.append(Unfit(message, "the key of a null value is not UTF-8"))
                continue
            gone[id_] = message.lane
            positions.pop(id_, None)
        customers = {position.customer_id for position in positions.values()}
        asked = store.Subjects(customers=customers, subjects={f"{Subject.LOAN}:{id_}" for id_ in gone})
        book = await self._book(connection, asked, now)
        await store.record_positions(connection, positions.values(), gone)
        for position in positions.values():
            book.learn_position(position)
        lanes = {book.positions[id_].customer_id: lane for id_, lane in gone.items() if id_ in book.positions}
        lanes |= {one.data.customer_id: one.lane for one in batch.messages if isinstance(one.data, ObligationPosition)}
        for obligation_id in gone:
            book.forget_position(obligation_id)
        for customer_id, lane in sorted(lanes.items()):
            for case in book.cases_of(customer_id):
                cases.look_at_obligations(book, lane, case)
        effects = await self._recorded(connection, book)
        return Effects(effects.outgoing, effects.timers_set, effects.timers_cleared, unfit)

    async def on_states(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Keep a copy of the wallets."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        wallets = _newest(message.data for message in batch.messages if isinstance(message.data, AccountState))
        await store.lock_customers(connection, {wallet.customer_id for wallet in wallets})
        await store.record_wallets(connection, wallets)
        return Effects()

    async def on_risks(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Note who is flagged: a person looks at their cases."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        said: list[Any] = [message.data for message in batch.messages]
        book = await self._book(connection, store.Subjects(customers={one.customer_id for one in said}), now)
        for message in batch.messages:
            _take_flag(book, message)
        return await self._recorded(connection, book)

    async def on_erasures(self, connection: Connection, batch: Batch, now: datetime) -> Effects:
        """Close the cases whose customers everybody has forgotten."""
        if batch.timers:
            return await self._on_timers(connection, batch.timers, now)
        said = [(message, message.data) for message in batch.messages if isinstance(message.data, CustomerErased)]
        found = await store.find_being_erased(connection, {data.customer_id for _, data in said})
        if not found:
            return Effects()
        book = await self._book(connection, store.Subjects(customers=found), now)
        for message, data in said:
            residue.decide_answer(book, message.lane, data)
        return await self._recorded(connection, book)

    async def _on_timers(self, connection: Connection, timers: Sequence[Timer], now: datetime) -> Effects:
        due = await clearances.Due.lock(connection, timers)
        timers = [timer for timer in timers if not clearances.is_of_clearance(timer)]
        asked = store.Subjects(
            cases={UUID(timer.subject) for timer in timers if timer.kind != ASSESS_TIMER},
            reopenings={UUID(timer.subject) for timer in timers if timer.kind == ASSESS_TIMER},
        )
        await due.ask(connection, asked, self.rules.policy, now)
        # Loans whose owner was not known may be by now; customers are locked before their cases.
        unowned = await store.find_unowned(connection, asked.cases)
        asked.subjects |= unowned
        asked.closed |= unowned
        book = await self._book(connection, asked, now)
        erased = [case.customer_id for case in book.cases.values() if case.erasure == "done" and case.customer_id]
        sealed = await store.find_sealed(connection, set(erased))
        for timer in timers:
            case = book.cases.get(UUID(timer.subject))
            if timer.kind == ASSESS_TIMER:
                reopening.decide_not_assessed(book, timer.lane, UUID(timer.subject))
            elif timer.kind == RESIDUE_TIMER and case is not None:
                residue.look(book, timer.lane, case, sealed)
            elif case is not None:
                outcomes.decide_timer(book, timer, case)
        desk = await due.decide(connection, book, self.rules.policy)
        return await self._recorded(connection, book, desk=desk)

    async def _book(self, connection: Connection, asked: store.Subjects, now: datetime) -> Book:
        return Book(await store.load_facts(connection, asked, self.master_key), self.rules, now)

    async def _recorded(self, connection: Connection, book: Book, *, desk: Clearances | None = None) -> Effects:
        forget_wanted(book)
        forget_again(book)
        await store.record(connection, book, self.master_key)
        if desk is not None:
            await clearance_store.record(connection, desk)
        return Effects.of(book.outgoing, book.timers)


def _asked_by(messages: Sequence[Message]) -> store.Subjects:
    """Return what the commands of a batch name."""
    asked = store.Subjects()
    for message in messages:
        _ask(asked, message)
    return asked


def _ask(asked: store.Subjects, message: Message) -> None:
    data: Any = message.data
    if message.type in clearances.COMMANDS:
        if message.type != "clearance.start":
            asked.answers.add(AnswerKey(message.source, message.id))
    elif isinstance(data, ClosureRequest):
        asked.cases.add(data.case_id)
        asked.new.add(data.case_id)
        asked.subjects.add(data.subject)
        asked.closed.add(data.subject)
    elif isinstance(data, ClosureReopen):
        asked.reopenings.add(data.request_id)
        asked.subjects.add(data.subject)
        asked.closed.add(data.subject)
    elif isinstance(data, AssessmentAnswered):
        asked.reopenings.add(data.request_id)
        asked.answers.add(AnswerKey(message.source, message.id))
    else:
        asked.cases.add(data.case_id)
        asked.answers.add(AnswerKey(message.source, message.id))


def _decide_command(book: Book, message: Message) -> None:
    if isinstance(message.data, ClosureRequest):
        commands.decide_request(book, message, message.data)
    elif isinstance(message.data, ClosureReopen):
        reopening.decide_reopen(book, message, message.data)
    elif isinstance(message.data, AssessmentAnswered):
        book.decide_once(message, reopening.decide_answer)
    else:
        book.decide_once(message, commands.decide_change)


def _take_profile(book: Book, message: Message, customer_id: str) -> None:
    customer = book.customers[customer_id]
    book.changed_customers[customer_id] = customer
    if isinstance(message.data, CustomerProfile):
        customer.profile = hash_profile(message.data, book.rules.hashes)
        customer.erased_at = customer.erase_wanted = None
    else:
        want_forgotten(book, message.lane, customer, message.id)


def _person(book: Book, customer_id: str) -> tuple[bytes, bytes | None] | None:
    """Return by what a customer is known for who they are."""
    profile = book.customers[customer_id].profile
    return None if profile is None else (profile.name_hash, profile.id_number_hash)


def _take_flag(book: Book, message: Message) -> None:
    data: Any = message.data
    customer = book.customers[data.customer_id]
    if customer.erased_at is not None:
        # They are forgotten, until a profile says that they are back.
        return
    before = customer.flagged_until
    if isinstance(data, RiskFlagged):
        customer.flags[data.rule] = data.until
    elif data.rule is None:
        customer.flags = {}
    else:
        customer.flags.pop(data.rule, None)
    customer.flags = {rule: until for rule, until in customer.flags.items() if until > book.now}
    book.changed_customers[customer.customer_id] = customer
    if before != customer.flagged_until:
        for case in book.cases_of(customer.customer_id):
            cases.look_at_risk(book, message.lane, case)


def _case_of(message: Message) -> UUID | None:
    """Return the case that an event is about: the one that it names, or whose command it refuses."""
    data: Any = message.data
    case_id = cast("UUID | None", getattr(data, "case_id", None))
    if case_id is not None or not isinstance(data, TransferCommandRefused):
        return case_id
    try:
        return UUID(data.command_id[:_UUID_LENGTH])
    except ValueError:
        return None


def _asked_in(messages: Sequence[Message], said: Mapping[int, UUID]) -> store.Subjects:
    """Return what the transfer service speaks of: cases that it names, and wallets that a case may be about."""
    asked = store.Subjects(cases=set(said.values()))
    for message in messages:
        data = message.data
        if isinstance(data, AccountReported):
            asked.subjects.add(data.account_id)
            asked.closed.add(data.account_id)
            asked.customers.add(data.customer_id)
        elif isinstance(data, AccountReleased):
            asked.subjects.add(data.account_id)
        elif isinstance(data, AccountState) and id(message) in said:
            asked.customers.add(data.customer_id)
    return asked


def _decide_told(book: Book, message: Message, told: AccountReported | AccountReleased) -> None:
    if isinstance(told, AccountReleased):
        if (stopped := book.open_case_of(told.account_id)) is not None:
            draining.decide_released(book, message.lane, stopped)
    elif (asking := book.asking(told.account_id, told.customer_id, told.report_id)) is not None:
        outcomes.decide_report(book, message.lane, asking, told)


def _decide_said(book: Book, message: Message, case: Case) -> None:
    data: Any = message.data
    if isinstance(data, AccountState):
        outcomes.decide_account(book, message, case)
    elif isinstance(data, TransferCommandRefused):
        outcomes.decide_refused(book, message.lane, case, data)
    else:
        draining.decide_transfer(book, message.lane, case, message.type, data)


def _newest(states: Iterable[AccountState]) -> list[Wallet]:
    wallets: dict[str, Wallet] = {}
    for state in states:
        known = wallets.get(state.account_id)
        if known is None or known.version < state.version:
            wallets[state.account_id] = Wallet(
                state.account_id, state.customer_id, state.currency, state.status, state.version
            )
    return list(wallets.values())


def _wallets_in(messages: Sequence[Message], book: Book) -> list[Wallet]:
    """Return how the wallets of a batch stand by now, also as what the batch decides knows them."""
    newest = _newest(message.data for message in messages if isinstance(message.data, AccountState))
    for wallet in newest:
        book.learn_wallet(wallet)
    return newest


def _customer_of(message: Message) -> str:
    data = message.data
    return data.customer_id if isinstance(data, CustomerProfile) else erased_customer(message.key)


def _position_of(data: ObligationPosition) -> Position:
    return Position(
        data.obligation_id,
        data.customer_id,
        data.account,
        data.kind,
        data.principal_minor,
        data.interest_minor,
        data.penalty_minor,
        data.currency,
        data.status,
    )
