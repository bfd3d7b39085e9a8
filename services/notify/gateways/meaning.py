"""What a provider's own codes mean to us: a table that operators fill in from the provider's manual."""

from __future__ import annotations

from services.notify.gateways.gateway import Outcome
from services.runtime.checked_files import Strict


class Meaning(Strict):
    """What a code says of a message, and why in words that people understand; `is_dead`: of its address, for good."""

    outcome: Outcome
    why: str | None = None
    is_dead: bool = False
