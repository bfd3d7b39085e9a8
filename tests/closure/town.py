"""Both services' own decisions, joined by queues whose order a test chooses, with people and a bank that answer."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from schemas.envelope import Envelope, decode
from schemas.registry import TOPICS
from services.closure.model import ENDED, Status
from services.runtime.message import Lane, Message
from tests.closure.desk import APPLICANT, CUSTOMER, MORNING, PAYOUT, SERVICES, WALLET, Desk
from tests.transfer.bench_of_facts import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.runtime.message import Outgoing
    from services.transfer.decide.ledger import Ledger

OTHER: Final = "wallet:other"
SETTLING: Final = (
    timedelta(0), timedelta(seconds=3), timedelta(minutes=6), timedelta(hours=2), *[timedelta(days=8)] * 3
)  # fmt: skip
"""How time passes at the end: all that anybody waits for comes in it."""

Queue = tuple[str, str]


class Books(World):
    """The transfer service, with what all its movements add up to."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.moved: Counter[str] = Counter()

    def _keep(self, ledger: Ledger) -> list[tuple[str, dict[str, Any]]]:
        for moved in ledger.movements:
            self.moved[moved.debit_account] -= moved.amount_minor
            self.moved[moved.credit_account] += moved.amount_minor
        return super()._keep(ledger)


@dataclass
class Town:
    """Everybody, and what is on its way between them."""

    outcomes: deque[str]
    """What the bank makes of payouts, one after the other: `settle`, `fail`, `return`; at the end it settles all."""
    changes_mind: bool = False
    decision: str = "approve"
    """What reviewers say of everything."""
    """Whether the customer calls the closing off as soon as they have confirmed it."""
    desk: Desk = field(default_factory=Desk)
    books: Books = field(default_factory=lambda: Books(now=MORNING))
    queues: dict[Queue, deque[Message]] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)
    """What the bank has paid and not got back, by payout."""
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """What was published on `transfer.events` and `closure.events`, in the order of its making."""
    delivered: list[str] = field(default_factory=list)
    """The types of what was delivered, in its order."""
    offsets: int = 0

    # --- Queues ---

    def put(
        self, topic: str, type_: str, data: dict[str, Any] | None, key: str = WALLET, id_: str | None = None
    ) -> None:
        """Put something on its way; what has one key in one topic stays in order."""
        body = None if data is None else TOPICS[topic][type_].model_validate_json(orjson.dumps(data))
        self._append(Message(_lane(topic), topic, 0, key.encode(), type_, id_ or str(uuid.uuid4()), "test", body))

    def _append(self, message: Message) -> None:
        self.offsets += 1
        queue = (message.topic, (message.key or b"").decode())
        self.queues.setdefault(queue, deque()).append(message._replace(offset=self.offsets))

    @property
    def waiting(self) -> list[Queue]:
        """The queues that something is in."""
        return [queue for queue, messages in self.queues.items() if messages]

    def deliver(self, queue: Queue, times: int = 1) -> None:
        """Deliver what is next in a queue, once or again and again."""
        message = self.queues[queue].popleft()
        self.delivered.append(message.type)
        for _ in range(times):
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if message.topic in {"transfer.commands", "rail.results"}:
            before = len(self.books.published)
            self.books.tell(message)
            self._publish(self.books.published[before:])
        elif message.topic == "rail.instructions":
            self._instruct(message)
        else:
            before = len(self.desk.published)
            self.desk.hear(message)
            self._publish(self.desk.published[before:])

    def _publish(self, outgoing: Iterable[Outgoing]) -> None:
        for one in outgoing:
            found = decode(one.headers, one.value, TOPICS[one.topic])
            assert isinstance(found, Envelope), found
            body: dict[str, Any] = orjson.loads(one.value or b"")
            if one.topic == "closure.events":
                self.events.append((found.type, body))
                self._answer(found.type, body)
            elif one.topic == "erasure.events" and found.type == "customer.erase":
                for service in SERVICES:
                    erased = {**body, "service": service, "retained": []}
                    self.put("erasure.events", "customer.erased", erased, service)
            else:
                if one.topic == "transfer.events":
                    self.events.append((found.type, body))
                if one.topic in {"transfer.commands", "transfer.events", "account.states", "rail.instructions"}:
                    self._append(
                        Message(_lane(one.topic), one.topic, 0, one.key, found.type, found.id, found.source, found.data)
                    )

    # --- Who answers ---

    def _answer(self, type_: str, body: dict[str, Any]) -> None:
        """Have the customer, or a reviewer, answer what a case asks."""
        if type_ == "closure.approved":
            self.say(body, "confirm")
            if self.changes_mind:
                self.say(body, "cancel", "cancels")
        elif type_ in {"closure.payout_failed", "closure.payout_account_required"}:
            self.say(body, "payout_account", **PAYOUT)
        elif type_ == "closure.documents_required":
            self.say(body, "correct", applicant=APPLICANT)
        elif type_ == "closure.in_review":
            self.say(body, "review", decision=self.decision, reviewer="Reviewer", note="Looked at")

    def say(self, body: dict[str, Any], what: str, by: str = "customer", **data: Any) -> None:
        """Say something about a case; what different people say comes in any order."""
        command = {"case_id": body["case_id"], **data}
        self.put("closure.commands", f"closure.{what}", command, by)

    def _instruct(self, message: Message) -> None:
        data: Any = message.data
        if message.type != "payout.instructed":
            return
        id_ = str(data.transfer_id)
        outcome = self.outcomes.popleft() if self.outcomes else "settle"
        if outcome == "fail":
            self._result(id_, "failed", rail_code="AC04")
            return
        self._result(id_, "settled")
        if outcome == "return":
            # A message of its own, which comes much later than what follows from the settling, or at once.
            self._result(id_, "returned")
        else:
            self.paid[id_] = data.amount_minor

    def _result(self, id_: str, outcome: str, **more: Any) -> None:
        self.put("rail.results", f"payout.{outcome}", {"transfer_id": id_, **more})

    # --- Time ---

    def pass_time(self, by: timedelta) -> None:
        """Let time pass for everybody."""
        for service in (self.desk, self.books):
            before = len(service.published)
            service.pass_time(by)
            self._publish(service.published[before:])

    def settle_down(self) -> None:
        """Deliver everything that is left, and let time pass until nothing comes of it any more."""
        for step in SETTLING:
            self.pass_time(step)
            steps = 0
            while waiting := self.waiting:
                self.deliver(waiting[0])
                steps += 1
                assert steps < 2_000, f"it does not come to an end: {self.events[-6:]}"

    # --- What is so ---

    @property
    def cases(self) -> list[Any]:
        return list(self.desk.memory.facts.cases.values())

    def check(self) -> None:
        """Hold everything against what must be so, whatever came first."""
        self._check_money()
        self._check_cases()
        self._check_closing()

    def _check_money(self) -> None:
        assert sum(self.books.moved.values()) == 0
        for id_, account in self.books.facts.accounts.items():
            assert (account.posted_minor, account.reserved_minor) == (self.books.moved[id_], 0)
        assert self.books.moved["platform:suspense"] == 0

    def _check_cases(self) -> None:
        account = self.books.facts.accounts[WALLET]
        unended = [(case.status, case.refusal) for case in self.cases if case.status not in ENDED]
        assert not unended, "everybody has answered, and the case waits"
        closed = [case for case in self.cases if case.status == Status.CLOSED]
        assert len(closed) <= 1
        assert account.status == ("closed" if closed else "open")
        assert account.posted_minor == 0 or not closed
        standing = self._standing()
        for case in self.cases:
            paid = standing.get(str(case.case_id), [])
            assert sum(paid) == case.paid_minor, "what was paid is not what the case says"
            assert paid == [] or case.status == Status.CLOSED
            assert case.fee_paid_minor == 0 or case.status == Status.CLOSED
            assert len(case.paid_numbers) == len(paid)
        receipts = [body["receipt"] for type_, body in self.events if type_ == "closure.erasing"]
        receipts += [body["receipt"] for type_, body in self.events if type_ == "closure.closed" and "receipt" in body]
        assert len({receipt["number"] for receipt in receipts}) == len(closed)

    def _standing(self) -> dict[str, list[int]]:
        """Return the payouts of cases that have arrived and stayed there."""
        payouts = {}
        for type_, body in self.events:
            if type_.startswith("transfer.") and body.get("kind") == "withdrawal" and "case_id" in body:
                payouts[body["transfer_id"]] = body
        standing = defaultdict(list)
        for body in payouts.values():
            if body["status"] == "settled":
                standing[body["case_id"]].append(body["amount_minor"])
                assert self.paid[body["transfer_id"]] == body["amount_minor"]
        return standing

    def _check_closing(self) -> None:
        """From `account.closing` until it is given back nothing moves in the wallet but for its case."""
        is_closing = False
        for type_, body in self.events:
            if type_.startswith("account.") and body.get("account_id") == WALLET:
                is_closing = body["status"] != "open"
            elif is_closing and type_ == "transfer.settled" and WALLET in {body["payer"], body["payee"]}:
                # What had been sent before may arrive.
                assert "case_id" in body or body["kind"] == "withdrawal", body


def open_town(town: Town, posted_minor: int) -> None:
    """Make the customer known, with a wallet that holds something, before anything else."""
    for wallet, owner in ((WALLET, CUSTOMER), (OTHER, "other")):
        opening = {"account_id": wallet, "customer_id": owner, "currency": "CNY", "tier": "unlimited"}
        town.put("transfer.commands", "account.open", opening, wallet)
        if posted_minor:
            transfer(town, "top_up", "bank:X1:1", wallet, posted_minor)
    publish_profile(town)
    town.settle_down()


def transfer(town: Town, kind: str, payer: str, payee: str, amount_minor: int, **more: Any) -> None:
    """Ask for a transfer."""
    order = {"kind": kind, "payer": payer, "payee": payee, "amount_minor": amount_minor, "currency": "CNY", **more}
    key = payer if payer.startswith("wallet:") else payee
    town.put("transfer.commands", "transfer.request", {"transfer_id": str(uuid.uuid4()), **order}, key)


def publish_profile(town: Town, **more: Any) -> None:
    """Publish the customer's profile."""
    profile = {"customer_id": CUSTOMER, **APPLICANT, "phone_verified": True, **more}
    town.put("customer.profiles", "customer.profile", profile, CUSTOMER)


def publish_position(town: Town, principal_minor: int) -> None:
    """Publish what the customer owes."""
    position = {"obligation_id": "l-1", "customer_id": CUSTOMER, "account": WALLET, "kind": "loan"}
    money = {"principal_minor": principal_minor, "interest_minor": 0, "penalty_minor": 0, "currency": "CNY"}
    position |= {"status": "open" if principal_minor else "settled"}
    town.put("obligation.positions", "obligation.position", {**position, **money}, "l-1")


def request(town: Town, case_id: UUID, payout: dict[str, str] | None = PAYOUT, **applicant: str) -> None:
    """Apply for the closing of the wallet."""
    data = {"case_id": str(case_id), "subject": WALLET, "reason": "Not needed", "applicant": APPLICANT | applicant}
    more = {} if payout is None else {"payout": payout}
    town.put("closure.commands", "closure.request", {**data, "accepts_fee": True, **more}, f"request-{case_id}")


def _lane(topic: str) -> Lane:
    return Lane("wallet" if topic in {"transfer.commands", "rail.results"} else "case", 0)
