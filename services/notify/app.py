"""Wires the notifier: its topics, its handlers and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas import registry
from services.notify.broadcast.handlers import Broadcasts
from services.notify.companion import Delivering
from services.notify.delivery.receipts import on_receipts
from services.notify.handlers import Handlers
from services.notify.sealed import Keys
from services.notify.settings import load_notify
from services.runtime.service import Service, Subscription

if TYPE_CHECKING:
    from services.notify.companion import Outside
    from services.notify.decide import Rules
    from services.runtime.service import Handler

NAME: Final = "notify"
MIGRATIONS: Final = Path(__file__).with_name("migrations")


def build(rules: Rules, outside: Outside) -> Service:
    """Return the service: profiles and wallets first, so that who is known from the same reading is told at once."""
    keys = Keys(rules.master_key)
    handlers = Handlers(rules, keys, Broadcasts(rules))
    return Service(
        name=NAME,
        schema=NAME,
        subscriptions=(
            _subscription("profile", "customer.profiles", handlers.on_profiles, tombstones=True),
            _subscription("account", "account.states", handlers.on_accounts),
            _subscription("transfer", "transfer.events", handlers.on_events),
            _subscription("closure", "closure.events", handlers.on_events_for_many),
            _subscription("maintenance", "maintenance.events", handlers.on_events_for_many),
            _subscription("risk", "risk.events", handlers.on_events),
            _subscription("erasure", "erasure.events", handlers.on_erasures),
            _subscription("command", "notify.commands", handlers.on_commands),
            _subscription("receipt", "notify.receipts", on_receipts),
        ),
        follow_up_topics=frozenset(),
        migrations=MIGRATIONS,
        companions=(Delivering(outside, rules, keys).run,),
        companion_connections=outside.connections,
    )


def _subscription(group: str, topic: str, handler: Handler, *, tombstones: bool = False) -> Subscription:
    return Subscription(group=group, topics={topic: registry.TOPICS[topic]}, handler=handler, tombstones=tombstones)


def build_from_environment() -> Service:
    """Return the service as the environment describes it; SettingsError says what is wrong."""
    return build(*load_notify())
