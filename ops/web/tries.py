"""How often somebody may try to sign in: a few wrong passwords for a name or from an address, then a wait."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

WITHIN_S: Final = 300.0
FOR_A_NAME: Final = 5
FROM_AN_ADDRESS: Final = 20
_MOST_REMEMBERED: Final = 10_000


class Tries:
    """Remembers the latest tries that failed, of so many names and addresses that memory stays bounded."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, name: str, address: str, now: float) -> float:
        """Return how long nobody may try that name from that address; 0 where one may."""
        return max(self._wait(f"name {name}", FOR_A_NAME, now), self._wait(f"address {address}", FROM_AN_ADDRESS, now))

    def begin(self, name: str, address: str, now: float) -> None:
        """Note a try: it counts as failed until it is known to be good, so that many at once are no more tries."""
        for key in (f"name {name}", f"address {address}"):
            self._failed[key] = [*self._recent(key, now), now]
            self._failed.move_to_end(key)
        while len(self._failed) > _MOST_REMEMBERED:
            self._failed.popitem(last=False)

    def forget(self, name: str, address: str) -> None:
        """Note that a try was good."""
        for key in (f"name {name}", f"address {address}"):
            self._failed.pop(key, None)

    def _wait(self, key: str, most: int, now: float) -> float:
        recent = self._recent(key, now)
        return 0.0 if len(recent) < most else recent[-most] + WITHIN_S - now

    def _recent(self, key: str, now: float) -> list[float]:
        return [at for at in self._failed.get(key, ()) if now - at < WITHIN_S]
