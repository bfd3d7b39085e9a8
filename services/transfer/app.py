"""Wires the transfer service: its topics, its handlers and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas import registry
from services.runtime.service import Service, Subscription, only
from services.transfer.decide.rules import Rules
from services.transfer.handlers import LANES, Handlers
from services.transfer.settings import load_settings

if TYPE_CHECKING:
    from services.transfer.policy import Policy
    from services.transfer.settings import TransferSettings

NAME: Final = "transfer"
MIGRATIONS: Final = Path(__file__).with_name("migrations")


def build(settings: TransferSettings, policy: Policy) -> Service:
    """Return the service: profiles, windows and flags first, so that what they say in the same batch is known."""
    master_key, name_key = settings.key_bytes()
    handlers = Handlers(Rules(policy, name_key), master_key)
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
                group="erasure",
                topics={"erasure.events": only(registry.TOPICS["erasure.events"], {"customer.erase"})},
                handler=handlers.on_erasures,
            ),
            Subscription(
                group="maintenance",
                topics={"maintenance.events": registry.TOPICS["maintenance.events"]},
                handler=handlers.on_windows,
                leads=True,
            ),
            Subscription(
                group="risk",
                topics={"risk.events": registry.TOPICS["risk.events"]},
                handler=handlers.on_risks,
            ),
            Subscription(
                group=LANES,
                topics={
                    "transfer.commands": registry.TOPICS["transfer.commands"],
                    "rail.results": registry.TOPICS["rail.results"],
                },
                handler=handlers.on_commands_and_results,
            ),
        ),
        follow_up_topics=frozenset({"rail.instructions"}),
        migrations=MIGRATIONS,
    )


def build_from_environment() -> Service:
    """Return the service as the environment describes it; SettingsError says what is wrong."""
    return build(*load_settings())
