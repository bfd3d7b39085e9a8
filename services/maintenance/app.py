"""Wires the maintenance service: its topics, its handlers and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas import registry
from services.maintenance.handlers import Handlers
from services.maintenance.settings import load_maintenance
from services.runtime.service import Service, Subscription, only

if TYPE_CHECKING:
    from services.maintenance.policy import Policy

NAME: Final = "maintenance"
MIGRATIONS: Final = Path(__file__).with_name("migrations")

_READ_EVENTS: Final = frozenset({"transfer.held", "transfer.failed", "transfer.delayed", "fee.waived"})


def build(policy: Policy) -> Service:
    """Return the service: what operators say first, then what windows did to transfers, then whom to forget."""
    handlers = Handlers(policy)
    return Service(
        name=NAME,
        schema=NAME,
        subscriptions=(
            Subscription(
                group="window",
                topics={"maintenance.commands": registry.TOPICS["maintenance.commands"]},
                handler=handlers.on_commands,
            ),
            Subscription(
                group="transfer",
                topics={
                    "transfer.events": only(registry.TOPICS["transfer.events"], _READ_EVENTS),
                    "rail.results": registry.TOPICS["rail.results"],
                },
                handler=handlers.on_transfers,
            ),
            Subscription(
                group="erasure",
                topics={"erasure.events": only(registry.TOPICS["erasure.events"], {"customer.erase"})},
                handler=handlers.on_erasures,
            ),
            Subscription(
                group="profile",
                topics={"customer.profiles": only(registry.TOPICS["customer.profiles"], ())},
                handler=handlers.on_erasures,
                tombstones=True,
            ),
        ),
        follow_up_topics=frozenset(),
        migrations=MIGRATIONS,
    )


def build_from_environment() -> Service:
    """Return the service as the environment describes it; SettingsError says what is wrong."""
    return build(load_maintenance())
