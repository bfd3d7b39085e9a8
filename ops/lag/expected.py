"""The groups that should always have a member: those of our own services, with the topics that each reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READ_BY: Final[Mapping[str, Sequence[str]]] = {
    "transfer": (
        "customer.profiles",
        "erasure.events",
        "maintenance.events",
        "rail.results",
        "risk.events",
        "transfer.commands",
    ),
    "maintenance": ("customer.profiles", "erasure.events", "maintenance.commands", "rail.results", "transfer.events"),
    "closure": (
        "account.states",
        "closure.commands",
        "customer.profiles",
        "erasure.events",
        "obligation.positions",
        "risk.events",
        "transfer.events",
    ),
    "insight": ("erasure.events", "notify.events", "transfer.events"),
    "notify": (
        "account.states",
        "closure.events",
        "customer.profiles",
        "erasure.events",
        "maintenance.events",
        "notify.commands",
        "notify.receipts",
        "risk.events",
        "transfer.events",
    ),
}
"""Topics by service; a test holds them to what each service subscribes to."""


def expected_groups(prefix: str) -> dict[str, frozenset[str]]:
    """Return the topics on the wire that each service's group reads."""
    return {f"{prefix}sluice.{name}": frozenset(prefix + topic for topic in topics) for name, topics in READ_BY.items()}
