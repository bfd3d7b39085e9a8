"""How often somebody may try to sign in: a few wrong passwords, then a wait, for them alone as far as that is known."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

WITHIN_S: Final = 300.0
IN_A_BROWSER: Final = 5
"""For a name in a browser in which it has signed in before: no one else's tries keep it out."""
FROM_AN_ADDRESS_FOR_A_NAME: Final = 5
FROM_AN_ADDRESS: Final = 20
FOR_A_NAME: Final = 50
"""From all addresses together, in browsers in which the name has never signed in."""
_MOST_REMEMBERED: Final = 10_000


class Trying(NamedTuple):
    """Who tries: by which name, from which address, and in which browser, where the name has signed in there before."""

    name: str
    address: str
    browser: str | None = None

    def limits(self) -> dict[str, int]:
        """Return what the tries are counted by, and how many each may have."""
        if self.browser is not None:
            return {f"browser {self.browser}": IN_A_BROWSER}
        return {
            f"name {self.name} from {self.address}": FROM_AN_ADDRESS_FOR_A_NAME,
            f"address {self.address}": FROM_AN_ADDRESS,
            f"name {self.name}": FOR_A_NAME,
        }


class Tries:
    """Remembers the latest tries that failed, of so many names and addresses that memory stays bounded."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, who: Trying, now: float) -> float:
        """Return how long they may not try; 0 where they may."""
        return max(self._wait(key, most, now) for key, most in who.limits().items())

    def begin(self, who: Trying, now: float) -> None:
        """Note a try: it counts as failed until it is known to be good, so that many at once are no more tries."""
        for key in who.limits():
            self._failed[key] = [*self._recent(key, now), now]
            self._failed.move_to_end(key)
        while len(self._failed) > _MOST_REMEMBERED:
            self._failed.popitem(last=False)

    def forget(self, who: Trying) -> None:
        """Note that a try was good."""
        for key in who.limits():
            self._failed.pop(key, None)

    def _wait(self, key: str, most: int, now: float) -> float:
        recent = self._recent(key, now)
        return 0.0 if len(recent) < most else recent[-most] + WITHIN_S - now

    def _recent(self, key: str, now: float) -> list[float]:
        return [at for at in self._failed.get(key, ()) if now - at < WITHIN_S]
