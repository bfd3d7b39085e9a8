"""Where the sandbox's SMS gateways take messages, whichever way they come, and later say what became of them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from local.sms_behaviour import Conduct, GatewayBehaviour, SmsBehaviours
    from local.sms_mailbox import Mailbox


class Desk:
    """One for all gateways; used inside an event loop."""

    def __init__(self, mailbox: Mailbox, behaviour: SmsBehaviours) -> None:
        self.mailbox = mailbox
        self._behaviour = behaviour
        self._second = 0
        self._taken: defaultdict[str, int] = defaultdict(int)

    def behaviour_of(self, gateway: str) -> GatewayBehaviour:
        """Return how a gateway behaves at present."""
        return self._behaviour.of(gateway)

    def tell(self, gateway: str, behaviour: GatewayBehaviour) -> None:
        """Have a gateway behave otherwise from now on."""
        self._behaviour.tell(gateway, behaviour)

    def has_room(self, gateway: str, count: int) -> bool:
        """Count messages in, unless they are more than the gateway takes in this second."""
        limit = self.behaviour_of(gateway).limit_per_s
        if limit is None:
            return True
        if (second := int(time.monotonic())) != self._second:
            self._second = second
            self._taken.clear()
        if self._taken[gateway] + count > limit:
            return False
        self._taken[gateway] += count
        return True

    def settle_later(
        self, gateway: str, taken: Sequence[tuple[int, Conduct]], tell: Callable[[Iterable[int]], None]
    ) -> None:
        """Settle messages, by their places, after the gateway's delay, and have receipts told."""
        delay_s = self.behaviour_of(gateway).receipt_delay_s
        asyncio.get_running_loop().call_later(delay_s, self._settle, taken, tell)

    def _settle(self, taken: Sequence[tuple[int, Conduct]], tell: Callable[[Iterable[int]], None]) -> None:
        for place, conduct in taken:
            self.mailbox.settle(place, conduct.late_code)
        tell(place for place, conduct in taken for _ in range(conduct.receipts))
