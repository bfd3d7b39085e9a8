"""The verdict on a position from what was seen of it, and why; pure, so that every case is a line in a table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from ops.lag.model import Position, Row, Sample, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GROWS: Final = 0.1
"""Seconds of lag that come with each second, from which on a consumer is falling behind."""

_LITTLE_LEFT: Final = 0.2
"""The share of a topic's retention, by time or by size, that is left to a record when its loss is announced."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From which age on a record waits too long, and for how long nothing may move; in seconds.

    A client of Kafka commits every five seconds when nobody says otherwise: `still_s` is more than twice that.
    """

    behind_s: float = 10.0
    still_s: float = 12.0


def judge(position: Position, seen: Sequence[Sample], limits: Limits) -> Row:
    """Return the verdict from the samples of the last minute, the newest last; at least one."""
    now = seen[-1]
    rate_in, rate_out = _rates(seen)
    eta = _eta(now, rate_in, rate_out)
    verdict, why = _verdict(seen, limits)
    if verdict is not Verdict.GAP:
        losses = _loss_by_time(now, eta), _loss_by_size(now, rate_in, rate_out)
        why = "; ".join(part for part in (why, *losses) if part)
    return Row(
        *position,
        lag=now.lag,
        lag_seconds=round(now.lag_seconds, 3),
        rate_in=_rounded(rate_in),
        rate_out=_rounded(rate_out),
        eta_seconds=_rounded(eta),
        owner=now.owner,
        verdict=verdict,
        why=why,
    )


def is_certain(seen: Sequence[Sample], limits: Limits) -> bool:
    """Tell whether looking longer could hardly change the verdict: there is progress, no work, or it stood still."""
    now = seen[-1]
    if now.lag == 0 or now.paused is not None or _gap(now) is not None:
        return True
    if now.members == 0 and not _moves_alone(seen, limits):
        return True
    return len(seen) > 1 and (_moved(seen) or _span(seen) >= limits.still_s)


def _verdict(seen: Sequence[Sample], limits: Limits) -> tuple[Verdict, str]:
    now = seen[-1]
    if (gap := _gap(now)) is not None:
        return Verdict.GAP, gap
    if now.members == 0 and (now.lag > 0 or now.is_expected) and not _moves_alone(seen, limits):
        return Verdict.STOPPED, "no member in the group" + _since_when(now)
    if now.lag == 0:
        return Verdict.OK, now.paused or ("" if now.members else "no member, and nothing to do")
    if now.paused is not None:
        return Verdict.BEHIND, f"{now.paused}; {_waits(now)}"
    if _idle_for(seen) >= limits.still_s:
        return Verdict.STALLED, _why_still(seen, limits)
    if now.lag_seconds < limits.behind_s:
        return Verdict.OK, _waits(now) if now.is_unread else ""
    if _falls_behind(seen):
        return Verdict.FALLING_BEHIND, f"more comes than it handles: {_waits(now)}, and the wait grows"
    return Verdict.BEHIND, _waits(now)


def _gap(now: Sample) -> str | None:
    if now.committed is None:
        return None
    if now.committed < now.start:
        return f"retention overtook it: {now.start - now.committed:,} records before {now.start} are gone unread"
    if now.committed > now.end:
        return (
            f"it stands at {now.committed}, beyond the log's end at {now.end}: the topic was made again or lost records"
        )
    return None


def _since_when(now: Sample) -> str:
    return f"; {_waits(now)}" if now.lag else ", though nothing waits"


def _waits(now: Sample) -> str:
    if now.is_unread:
        return "its oldest record cannot be read"
    return f"its oldest record has waited for {duration(now.lag_seconds)}"


def _moved(seen: Sequence[Sample]) -> bool:
    """Tell whether anything was committed while it was looked; a log's start may move without anybody's work."""
    return any(sample.committed != seen[-1].committed for sample in seen[:-1])


def _moves_alone(seen: Sequence[Sample], limits: Limits) -> bool:
    """Tell whether somebody commits who is no member of the group, as who was given partitions by hand."""
    # What moved while there were members says nothing of now.
    alone = list(takewhile(lambda sample: sample.members == 0, reversed(seen)))[::-1]
    return _moved(alone) and _still_for(alone, lambda _sample: True) < limits.still_s


def _span(seen: Sequence[Sample]) -> float:
    return seen[-1].at - seen[0].at


def _still_for(seen: Sequence[Sample], counts: Callable[[Sample], bool]) -> float:
    """Return for how long, as far as was looked, the group has committed nothing, in samples that count."""
    now, since = seen[-1], seen[-1].at
    for sample in reversed(seen):
        if sample.committed != now.committed or not counts(sample):
            break
        since = sample.at
    return now.at - since


def _idle_for(seen: Sequence[Sample]) -> float:
    """Return for how long the group has committed nothing with work to do.

    By our own clock: what a publisher writes as a record's moment may lie in the future.
    """
    return _still_for(seen, lambda sample: sample.lag > 0)


def _why_still(seen: Sequence[Sample], limits: Limits) -> str:
    now = seen[-1]
    if now.committed is None:
        what = "has never committed"
    elif now.owner is None:
        what = "no member of the group has the partition"
    else:
        what = f"nothing was committed for at least {duration(max(_idle_for(seen), limits.still_s))}"
    return f"{what}; {_waits(now)}"


def _falls_behind(seen: Sequence[Sample]) -> bool:
    span = _span(seen)
    return _moved(seen) and span > 0 and (seen[-1].lag_seconds - seen[0].lag_seconds) / span > _GROWS


def _rates(seen: Sequence[Sample]) -> tuple[float | None, float | None]:
    span = _span(seen)
    if span <= 0:
        return None, None
    return (
        max(0, seen[-1].end - seen[0].end) / span,
        _handled(seen) / span,
    )


def _handled(seen: Sequence[Sample]) -> int:
    """Return how many records the group has committed; what retention took from it is none of them."""
    first, now = seen[0], seen[-1]
    before = first.start if first.committed is None else first.committed
    return 0 if now.committed is None else max(0, now.committed - before)


def _eta(now: Sample, rate_in: float | None, rate_out: float | None) -> float | None:
    """Return in how many seconds the backlog is gone at these rates, None where it is not getting smaller."""
    if now.lag == 0:
        return 0.0
    if rate_in is None or rate_out is None or rate_out <= rate_in:
        return None
    return now.lag / (rate_out - rate_in)


def _loss_by_time(now: Sample, eta: float | None) -> str | None:
    if now.retention_s is None or now.lag == 0:
        return None
    left = now.retention_s - now.lag_seconds
    if left >= now.retention_s * _LITTLE_LEFT and (eta is None or left >= eta):
        return None
    return f"retention will take its oldest record {'at any moment' if left <= 0 else 'in ' + duration(left)}"


def _loss_by_size(now: Sample, rate_in: float | None, rate_out: float | None) -> str | None:
    """Announce what retention by size will take: it goes by what comes, and takes whole files of records."""
    if now.kept is None or now.lag == 0:
        return None
    left = now.kept - now.lag
    if left >= now.kept * _LITTLE_LEFT:
        return None
    if left <= 0:
        return "retention by size may take its oldest record at any moment"
    when = f"when {left:,} more have come"
    if rate_in is None or rate_out is None or rate_in <= rate_out:
        return f"retention by size may take its oldest record {when}"
    # What it handles meanwhile is not lost.
    return f"retention by size may take its oldest record {when}, in {duration(left / (rate_in - rate_out))}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def duration(seconds: float) -> str:
    """Return a time as people say it: 48 s, 12 min, 3 h, 5 days."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
