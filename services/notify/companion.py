"""What runs beside the notifier's consumer: dispatcher, gateways, purge, and the desks for receipts and readers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from services.notify.delivery.dispatch import CONNECTIONS_A_GATEWAY, OWN_CONNECTIONS, Dispatcher
from services.notify.delivery.receipt_topic import ReceiptTopic
from services.notify.inbox.desk import CONNECTIONS as INBOX_CONNECTIONS
from services.notify.inbox.desk import open_inbox
from services.notify.public import serve_public
from services.notify.purge import purge_some
from services.notify.receipt_desk import ReceiptDesk
from services.notify.unsubscribe_desk import UnsubscribeDesk
from services.runtime.purge import CONNECTIONS as PURGE_CONNECTIONS
from services.runtime.purge import Purge

if TYPE_CHECKING:
    from services.notify.decide import Rules
    from services.notify.gateways.config import Gateways
    from services.notify.sealed import Keys
    from services.runtime.service import Surroundings


@dataclass(frozen=True, slots=True)
class Outside:
    """How the notifier reaches the outside, and is reached: its gateways, where it listens, and by what name."""

    gateways: Gateways
    host: str
    port: int
    url: str

    @property
    def connections(self) -> int:
        """How many connections to the database this needs."""
        return (
            CONNECTIONS_A_GATEWAY * len(self.gateways.names) + OWN_CONNECTIONS + INBOX_CONNECTIONS + PURGE_CONNECTIONS
        )


@dataclass(frozen=True, slots=True)
class Delivering:
    """The companion: `run` it for as long as the worker runs."""

    outside: Outside
    rules: Rules
    keys: Keys

    async def run(self, around: Surroundings) -> None:
        """Deliver, let people read, and remove what is kept no longer, until told to stop."""
        outside, topic = self.outside, ReceiptTopic(around.settings)
        inbox = open_inbox(self.keys, around.pool, around.clock)
        desk = ReceiptDesk(outside.gateways.called_back, topic)
        leaving = UnsubscribeDesk(self.keys.master_key, around.pool)
        try:
            async with (
                serve_public(outside.host, outside.port, [*desk.routes(), *leaving.routes(), *inbox.routes]),
                asyncio.TaskGroup() as group,
            ):
                group.create_task(inbox.live.run(around.stopping))
                group.create_task(Purge(partial(purge_some, self.rules.policy.erasing)).run(around))
                routes = outside.gateways.open(topic.keep, around.clock)
                group.create_task(Dispatcher(routes, self.rules, self.keys, outside.url).run(around))
        finally:
            await topic.close()
