"""What a database would hold of one customer, and a closing service that decides by it."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from schemas.account import AccountState
from schemas.customer import CustomerProfile
from schemas.envelope import short_type
from schemas.erasure import CustomerErased
from schemas.reasons import Reason
from schemas.registry import MODELS
from schemas.transfer import TransferCommandRefused
from services.closure.decide import commands, outcomes, reopening, residue
from services.closure.decide.book import Book, Facts, Rules
from services.closure.decide.cases import look_at_obligations, look_at_profile
from services.closure.decide.erasing import forget_again, forget_wanted, want_forgotten
from services.closure.identity import hash_profile, parse_id_number
from services.closure.model import ASSESS_TIMER, RESIDUE_TIMER, Case, Customer, Position, Status, Wallet
from services.closure.policy import Policy
from services.runtime.identity_hash import KeyedHashes
from services.runtime.message import Lane, Message, Timer
from tests.end_to_end.closings import applicant

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)
LANE = Lane("case", 0)
HASHES = KeyedHashes(b"k" * 32)
CUSTOMER, WALLET, LOAN = "person-1", "wallet:p1", "loan:l1"
SERVICES = ("transfer", "maintenance", "notify")

Said = list[tuple[str, dict[str, Any]]]


def number_hash(number: int) -> bytes:
    """Return the hash of the ID number of person of a number."""
    parsed = parse_id_number(applicant(number)["id_number"])
    assert parsed is not None
    return HASHES.id_number(parsed.text)


class World:
    """One customer with a wallet and a loan, both closed for good; time goes on as told."""

    def __init__(self) -> None:
        self.policy = Policy()
        self.rules = Rules(self.policy, HASHES)
        self.now = NOW
        self.facts = Facts(customers={CUSTOMER: Customer(CUSTOMER)})
        self.facts.wallets[WALLET] = Wallet(WALLET, CUSTOMER, "CNY", "closed", 1)
        self.timers: dict[tuple[str, str], Timer] = {}
        self.orders: Said = []
        self.erasures: Said = []
        self.said: Said = []
        self.ids: list[str] = []
        self._offsets = itertools.count()
        self._ids = itertools.count()
        self.closings = {subject: self.close(subject) for subject in (WALLET, LOAN)}
        self.owes(0)
        self.profile(1)

    # --- What is there ---

    def close(self, subject: str, **more: Any) -> Case:
        """Have a case of a subject that came to its end now."""
        case = Case(
            uuid.uuid5(uuid.NAMESPACE_OID, f"{subject}/{len(self.facts.cases)}"), b"", subject, self.now, CUSTOMER,
            status=Status.CLOSED, step_count=9, revision=7, currency="CNY", receipt_sha256="0" * 64, erasure="done",
            id_number_hash=number_hash(1), ended_at=self.now,
        )  # fmt: skip
        for name, value in more.items():
            setattr(case, name, value)
        self.facts.cases[case.case_id] = case
        return case

    def wallet(self, status: str, account_id: str = WALLET) -> None:
        """Say how a wallet stands."""
        known = self.facts.wallets.get(account_id)
        version = 1 if known is None else known.version + 1
        self.facts.wallets[account_id] = Wallet(account_id, CUSTOMER, "CNY", status, version)

    @property
    def customer(self) -> Customer:
        """Whose all of this is."""
        return self.facts.customers[CUSTOMER]

    # --- What is said to the service ---

    def tell(self, type_: str, command_id: str | None = None, **data: Any) -> Said:
        """Give a command; return the events that answer it."""
        model: Any = MODELS[type_].model_validate_json(orjson.dumps(data))
        id_ = command_id or f"command-{next(self._ids)}"
        message = Message(LANE, "closure.commands", next(self._offsets), b"k", type_, id_, "test", model)
        decide: dict[str, Callable[[Book], None]] = {
            "closure.request": lambda book: commands.decide_request(book, message, model),
            "closure.reopen": lambda book: reopening.decide_reopen(book, message, model),
            "assessment.answered": lambda book: book.decide_once(message, reopening.decide_answer),
        }
        return self.run(decide.get(type_, lambda book: book.decide_once(message, commands.decide_change)))

    def reopen(self, request: int, subject: str = LOAN, number: int = 1, **more: Any) -> Said:
        """Apply to come back, as person of a number."""
        said = {"request_id": request_id(request), "subject": subject, "applicant": applicant(number) | more}
        return self.tell("closure.reopen", **said)

    def answer(self, request: int, *, approved: bool = True, command_id: str | None = None, **more: Any) -> Said:
        """Answer as the credit system does."""
        said = {"request_id": request_id(request), "approved": approved}
        return self.tell("assessment.answered", command_id, **said, **more)

    def account(self, type_: str, case_id: uuid.UUID) -> Said:
        """Say of the wallet what the transfer service would."""
        status = {"account.reopened": "open", "account.closed": "closed"}[type_]
        self.wallet(status)
        state = AccountState(
            account_id=WALLET, customer_id=CUSTOMER, currency="CNY", tier="t", status=status, posted_minor=0,
            reserved_minor=0, available_minor=0, version=self.facts.wallets[WALLET].version,
        )  # fmt: skip
        message = Message(LANE, "transfer.events", next(self._offsets), b"k", type_, "e", "test", state)
        return self.run(lambda book: outcomes.decide_account(book, message, book.cases[case_id]))

    def refuse_order(self, command_id: str) -> Said:
        """Refuse an order as the transfer service would."""
        case = self.facts.cases[uuid.UUID(command_id[:36])]
        reason = Reason(code="state_conflict", retryable=False, refund="none")
        refused = TransferCommandRefused(
            command_type="account.reopen", command_id=command_id, reason=reason, occurred_at=self.now
        )
        return self.run(lambda book: outcomes.decide_refused(book, LANE, case, refused))

    def report(self, case: Case, **more: Any) -> Said:
        """Report how the wallet of a case stands."""
        state = {
            "account_id": case.subject, "customer_id": CUSTOMER, "currency": "CNY", "tier": "t", "status": "closed",
            "posted_minor": 0, "reserved_minor": 0, "available_minor": 0, "version": 9, "report_id": case.report_id,
        }  # fmt: skip
        data: Any = MODELS["account.reported"].model_validate({**state, **more})
        return self.run(lambda book: outcomes.decide_report(book, LANE, case, data))

    def profile(self, number: int | None) -> Said:
        """Say what the identity system knows of the customer; without a number, that they are to be forgotten."""

        def decide(book: Book) -> None:
            if number is None:
                want_forgotten(book, LANE, self.customer, f"null-{next(self._ids)}")
            else:
                known = {"customer_id": CUSTOMER, **applicant(number), "phone_verified": True}
                self.customer.profile = hash_profile(CustomerProfile.model_validate(known), HASHES)
                self.customer.erased_at = self.customer.erase_wanted = None
            for case in book.cases_of(CUSTOMER):
                look_at_profile(book, LANE, case)

        return self.run(decide)

    def owes(self, principal_minor: int, status: str | None = None, obligation_id: str = "l1") -> Said:
        """Say what the customer owes on a loan."""
        status = status or ("open" if principal_minor else "settled")
        position = Position(obligation_id, CUSTOMER, None, "loan", principal_minor, 0, 0, "CNY", status)
        self.facts.positions[obligation_id] = position
        return self.run(lambda book: [look_at_obligations(book, LANE, one) for one in book.cases_of(CUSTOMER)])

    def erased_by(self, service: str) -> Said:
        """Say that a service has forgotten the customer."""
        asking = [one for one in self.facts.cases.values() if one.is_forgetting]
        answers = [CustomerErased(customer_id=CUSTOMER, service=service, case_id=one.case_id) for one in asking]
        return self.run(lambda book: [residue.decide_answer(book, LANE, one) for one in answers])

    def wait(self, by: timedelta, sealed: frozenset[str] = frozenset()) -> Said:
        """Let time pass, timer by timer."""
        said, until = [], self.now + by
        while due := [timer for timer in self.timers.values() if timer.due_at <= until]:
            timer = min(due, key=lambda one: one.due_at)
            self.now = max(self.now, timer.due_at)
            del self.timers[timer.kind, timer.subject]
            said += self.run(lambda book, timer=timer: _decide_timer(book, timer, sealed))
        self.now = until
        return said

    # --- What it does ---

    def run(self, decide: Callable[[Book], object]) -> Said:
        """Decide something by what is there; return the events, each as its schema has it."""
        self.facts.cases = dict(self.facts.cases)
        book = Book(self.facts, self.rules, self.now)
        decide(book)
        forget_wanted(book)
        forget_again(book)
        self.facts.cases = book.cases
        for key, timer in book.timers.items():
            self.timers.pop(tuple(key), None)
            if timer is not None:
                self.timers[tuple(key)] = timer
        said: dict[str, Said] = {"closure.events": [], "transfer.commands": [], "erasure.events": []}
        for one in book.outgoing:
            headers = {name: (value or b"").decode() for name, value in one.headers}
            type_ = short_type(headers["ce_type"])
            MODELS[type_].model_validate_json(one.value or b"")
            said[one.topic].append((type_, orjson.loads(one.value or b"")))
            if one.topic == "closure.events":
                self.ids.append(headers["ce_id"])
            elif one.topic == "transfer.commands":
                said[one.topic][-1][1]["ce_id"] = headers["ce_id"]
        self.said += said["closure.events"]
        self.orders += said["transfer.commands"]
        self.erasures += said["erasure.events"]
        return said["closure.events"]


def _decide_timer(book: Book, timer: Timer, sealed: frozenset[str]) -> None:
    if timer.kind == ASSESS_TIMER:
        reopening.decide_not_assessed(book, timer.lane, uuid.UUID(timer.subject))
    elif timer.kind == RESIDUE_TIMER:
        residue.look(book, timer.lane, book.cases[uuid.UUID(timer.subject)], sealed)
    else:
        outcomes.decide_timer(book, timer, book.cases[uuid.UUID(timer.subject)])


def request_id(number: int) -> str:
    """Return the id of an application of a number."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"request/{number}"))


def codes(said: Said) -> list[str]:
    """Return why the only event said refuses an application."""
    [(type_, body)] = said
    assert type_ == "closure.reopen_refused"
    return [reason["code"] for reason in body["reasons"]]
