"""What people read of broadcasts, the same for all who read one language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import orjson

from services.notify.broadcast import store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.runtime.database import Pool

_MOST_KEPT: Final = 100


class BroadcastText(NamedTuple):
    """What people read of a broadcast in one language; `sms` is short enough for a text message."""

    title: str
    body: str
    sms: str


Texts: TypeAlias = "Mapping[str, BroadcastText]"
"""By language."""


def write_texts(texts: Texts) -> str:
    """Return texts as they are kept."""
    return orjson.dumps({str(locale): list(text) for locale, text in texts.items()}).decode()


def read_texts(kept: str) -> Texts:
    """Return texts that were kept."""
    return {locale: BroadcastText(*text) for locale, text in orjson.loads(kept).items()}


@dataclass(slots=True)
class BroadcastTexts:
    """The texts of the latest broadcasts; they never change."""

    pool: Pool
    _kept: dict[str, Texts] = field(default_factory=dict)

    async def of(self, ids: Iterable[str | None]) -> Mapping[str, Texts]:
        """Return the texts of broadcasts, by notification; None is no broadcast."""
        wanted = {id_ for id_ in ids if id_ is not None}
        known = {id_: self._kept[id_] for id_ in wanted if id_ in self._kept}
        if missing := wanted - known.keys():
            async with self.pool.acquire() as connection:
                loaded = await store.load_texts(connection, sorted(missing))
            known |= {id_: read_texts(kept) for id_, kept in loaded.items()}
            if len(self._kept) > _MOST_KEPT:
                self._kept.clear()
            self._kept |= known
        return known
