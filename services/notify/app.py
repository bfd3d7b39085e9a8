"""Wires the notifier: its topics, its handlers and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas import registry
from services.notify.delivery.dispatch import Dispatcher
from services.notify.delivery.receipts import on_receipts
from services.notify.handlers import Handlers
from services.notify.sealed import Keys
from services.notify.settings import load_rules
from services.runtime.service import Service, Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.notify.decide import Rules
    from services.notify.delivery.dispatch import Route

NAME: Final = "notify"
MIGRATIONS: Final = Path(__file__).with_name("migrations")


def build(rules: Rules, routes: Sequence[Route[Any]] = ()) -> Service:
    """Return the service: profiles first, so that who is known in the same batch is told at once."""
    keys = Keys(rules.master_key)
    handlers = Handlers(rules, keys)
    dispatcher = Dispatcher(routes, rules.policy, keys)
    return Service(
        name=NAME,
        schema=NAME,
        subscriptions=(
            Subscription(
                group="profile",
                topics={"customer.profiles": registry.TOPICS["customer.profiles"]},
                handler=handlers.on_profiles,
                tombstones=True,
            ),
            Subscription(
                group="transfer",
                topics={"transfer.events": registry.TOPICS["transfer.events"]},
                handler=handlers.on_events,
            ),
            Subscription(
                group="receipt",
                topics={"notify.receipts": registry.TOPICS["notify.receipts"]},
                handler=on_receipts,
            ),
        ),
        follow_up_topics=frozenset(),
        migrations=MIGRATIONS,
        companions=(dispatcher.run,) if routes else (),
        companion_connections=dispatcher.connections if routes else 0,
    )


def build_from_environment() -> Service:
    """Return the service as the environment describes it; SettingsError says what is wrong."""
    return build(load_rules())
