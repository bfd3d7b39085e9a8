"""Facts and messages for tests of decisions, and a small world that decides batch after batch in memory."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from schemas.envelope import Envelope, decode
from schemas.registry import TOPICS
from services.runtime.message import Batch, Effects, Lane, Message, Outgoing, Timer
from services.transfer.decide.closing import say_drained
from services.transfer.decide.dispatch import decide_message, decide_timer
from services.transfer.decide.gate import Gate
from services.transfer.decide.ledger import Facts, Ledger
from services.transfer.decide.rules import Rules
from services.transfer.model import Drain
from services.transfer.policy import DEFAULT_POLICY, Policy, read_policy

if TYPE_CHECKING:
    from uuid import UUID

    from services.runtime.database import Connection
    from services.transfer.handlers import Handlers
    from services.transfer.model import ClosedWindow, Hold

LANE = Lane("wallet", 0)
MORNING = datetime(2026, 9, 28, 1, 0, tzinfo=UTC)
POLICY = read_policy(DEFAULT_POLICY)
RULES = Rules(POLICY, b"k" * 32)


def with_policy(**changes: Any) -> Rules:
    """Return rules whose standard tier has other settings."""
    standard = {**POLICY.model_dump()["tiers"]["standard"], **changes}
    return Rules(Policy.model_validate({"tiers": {"standard": standard}}), b"k" * 32)


def new_id() -> str:
    return str(uuid.uuid4())


def message(type_: str, data: dict[str, Any], *, id_: str | None = None, key: str = "wallet:a") -> Message:
    """Return a message as the runtime would give it: read from JSON by the wire's own models."""
    topic = "rail.results" if type_.startswith("payout.") else "transfer.commands"
    model = TOPICS[topic][type_]
    body = model.model_validate_json(orjson.dumps(data))
    return Message(LANE, topic, 0, key.encode(), type_, id_ or new_id(), "test", body)


def request(kind: str = "p2p", **fields: Any) -> dict[str, Any]:
    """Return a transfer.request's data."""
    order = {"kind": kind, "payer": "wallet:a", "payee": "wallet:b", "amount_minor": 100, "currency": "CNY"}
    return {"transfer_id": new_id(), **order, **fields}


@dataclass
class World:
    """What a database would keep, decided in memory: each call of `tell` is a batch of its own."""

    rules: Rules = field(default_factory=lambda: RULES)
    now: datetime = MORNING
    facts: Facts = field(default_factory=Facts)
    timers: dict[tuple[str, str], Timer] = field(default_factory=dict)
    published: list[Outgoing] = field(default_factory=list)
    windows: list[ClosedWindow] = field(default_factory=list)
    held: dict[UUID, Hold] = field(default_factory=dict)
    at_once: int = 2
    """How many transfers of closing wallets are cancelled in a batch, and of how many wallets a report tells."""
    ledger: Ledger | None = None

    def tell(self, *messages: Message) -> list[tuple[str, dict[str, Any]]]:
        """Decide messages and return the events that follow: type and body."""
        ledger = self._begin()
        for one in messages:
            decide_message(ledger, one)
        say_drained(ledger)
        return self._keep(ledger)

    def pass_time(self, by: timedelta) -> list[tuple[str, dict[str, Any]]]:
        """Move the clock and decide the timers that are due, each in its turn."""
        self.now += by
        said = []
        while due := sorted((t for t in self.timers.values() if t.due_at <= self.now), key=lambda t: t.due_at):
            del self.timers[due[0].kind, due[0].subject]
            ledger = self._begin()
            decide_timer(ledger, due[0])
            say_drained(ledger)
            said += self._keep(ledger)
        return said

    def _begin(self) -> Ledger:
        self.facts.gate = Gate(self.windows, self.now, has_waivers=bool(self.facts.waivers))
        self.facts.releasing = {}
        for id_, hold in self.held.items():
            if hold.window_id not in self.facts.gate.closed:
                self.facts.releasing.setdefault(hold, []).append(id_)
        self._look_at_wallets()
        return Ledger(self.facts, self.rules, self.now)

    def _look_at_wallets(self) -> None:
        facts = self.facts
        # All transfers are in the facts, so none waits elsewhere.
        facts.drains = {id_: Drain(waits_elsewhere=False, waiting=set()) for id_ in facts.accounts}
        waiting = [one for one in facts.transfers.values() if (owner := one.waiting_of) and owner in facts.accounts]
        facts.draining = {}
        for one in waiting[: self.at_once]:
            facts.draining.setdefault(one.waiting_of or "", []).append(one.transfer_id)
        facts.draining_is_full = len(waiting) >= self.at_once
        ordered = [account for _, account in sorted(facts.accounts.items())]
        facts.slices = {
            id_: [account for account in ordered if account.account_id > report.last_account_id][: self.at_once]
            for id_, report in facts.reports.items()
        }

    def _keep(self, ledger: Ledger) -> list[tuple[str, dict[str, Any]]]:
        self.ledger = ledger
        for key, timer in ledger.timers.items():
            if timer is None:
                self.timers.pop((key.kind, key.subject), None)
            else:
                self.timers[key.kind, key.subject] = timer
        for id_, hold in ledger.held.items():
            if hold is None:
                self.held.pop(id_, None)
            else:
                self.held[id_] = hold
        for report_id in [id_ for id_, report in ledger.reports_changed.items() if report is None]:
            del self.facts.reports[report_id]
        self.published += ledger.outgoing
        return [read(outgoing) for outgoing in ledger.outgoing if outgoing.topic != "account.states"]

    def open(self, *names: str, **fields: Any) -> None:
        """Open wallets with some money in them."""
        for name in names:
            opening = {"account_id": f"wallet:{name}", "customer_id": name, "currency": "CNY", **fields}
            self.tell(message("account.open", opening))

    def fund(self, name: str, minor: int) -> None:
        """Bring money in."""
        self.tell(
            message(
                "transfer.request", request("top_up", payer="bank:X1:1", payee=f"wallet:{name}", amount_minor=minor)
            )
        )

    def available(self, name: str) -> int:
        return self.facts.accounts[f"wallet:{name}"].available_minor


def read(outgoing: Outgoing) -> tuple[str, dict[str, Any]]:
    """Return type and body of one of our messages, which the wire's own strict model must accept."""
    found = decode(outgoing.headers, outgoing.value, TOPICS[outgoing.topic])
    assert isinstance(found, Envelope), found
    return found.type, orjson.loads(outgoing.value or b"")


def funded() -> World:
    """Return two standard wallets, a and b, with 10,000.00 in a."""
    world = World()
    world.open("a", "b")
    world.fund("a", 1_000_000)
    return world


async def handle(handlers: Handlers, connection: Connection, batch: Batch, now: datetime) -> Effects:
    """Handle a batch as the runtime does, until all of it is recorded."""
    effects = await handlers.on_commands_and_results(connection, batch, now)
    await effects.recorded()
    return effects
