"""Wires the notifier: its topics, its handlers and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas import registry
from services.notify.handlers import Handlers
from services.notify.settings import load_rules
from services.runtime.service import Service, Subscription

if TYPE_CHECKING:
    from services.notify.decide import Rules

NAME: Final = "notify"
MIGRATIONS: Final = Path(__file__).with_name("migrations")


def build(rules: Rules) -> Service:
    """Return the service: profiles first, so that who is known in the same batch is told at once."""
    handlers = Handlers(rules)
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
        ),
        follow_up_topics=frozenset(),
        migrations=MIGRATIONS,
    )


def build_from_environment() -> Service:
    """Return the service as the environment describes it; SettingsError says what is wrong."""
    return build(load_rules())
