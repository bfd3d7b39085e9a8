"""Wires the closing service: its topics, its handlers and what they need."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas import registry
from services.closure.decide.book import Rules
from services.closure.handlers import Handlers
from services.closure.purge import purge_some
from services.closure.settings import load_closure
from services.runtime.identity_hash import KeyedHashes
from services.runtime.purge import CONNECTIONS, Purge
from services.runtime.service import Service, Subscription, only

if TYPE_CHECKING:
    from services.closure.policy import Policy
    from services.closure.settings import ClosureSettings
    from services.runtime.service import Handler

NAME: Final = "closure"
MIGRATIONS: Final = Path(__file__).with_name("migrations")

_READ_EVENTS: Final = frozenset(
    {
        "transfer.settled",
        "transfer.failed",
        "transfer.refunded",
        "transfer.cancelled",
        "transfer.expired",
        "transfer.command_refused",
        "account.drained",
        "account.released",
        "account.reinstated",
        "account.closed",
        "account.reopened",
        "account.reported",
        "accounts.report_finished",
    }
)


def build(settings: ClosureSettings, policy: Policy) -> Service:
    """Return the service: what is known of people and debts first, so that it is known when cases are decided."""
    master_key, name_key = settings.key_bytes()
    handlers = Handlers(Rules(policy, KeyedHashes(name_key)), master_key)
    return Service(
        name=NAME,
        schema=NAME,
        subscriptions=(
            _subscription("profile", "customer.profiles", handlers.on_profiles, tombstones=True, leads=True),
            _subscription("obligation", "obligation.positions", handlers.on_positions, tombstones=True, leads=True),
            _subscription("account", "account.states", handlers.on_states, leads=True),
            _subscription("risk", "risk.events", handlers.on_risks, leads=True),
            _subscription("erasure", "erasure.events", handlers.on_erasures, names={"customer.erased"}),
            _subscription("transfer", "transfer.events", handlers.on_transfers, names=_READ_EVENTS),
            _subscription("case", "closure.commands", handlers.on_commands),
        ),
        follow_up_topics=frozenset({"transfer.commands", "erasure.events"}),
        migrations=MIGRATIONS,
        companions=(Purge(partial(purge_some, policy)).run,),
        companion_connections=CONNECTIONS,
    )


def _subscription(
    group: str,
    topic: str,
    handler: Handler,
    *,
    names: frozenset[str] | set[str] | None = None,
    tombstones: bool = False,
    leads: bool = False,
) -> Subscription:
    types = registry.TOPICS[topic]
    heard = types if names is None else only(types, names)
    return Subscription(group, {topic: heard}, handler, tombstones=tombstones, leads=leads)


def build_from_environment() -> Service:
    """Return the service as the environment describes it; SettingsError says what is wrong."""
    return build(*load_closure())
