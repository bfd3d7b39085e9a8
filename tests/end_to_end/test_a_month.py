"""A month of windows: nothing starts inside one, nothing is held outside one, and each is told of once, under kills."""

from __future__ import annotations

import os
import signal
import uuid
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import orjson
import pytest

from schemas.envelope import short_type
from schemas.fields import as_text, parse_time
from services.maintenance import records as windows_records
from services.transfer import records as transfer_records
from tests.end_to_end.system import Clock, Reader, System, dice, running_system
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random

HOUR: Final = timedelta(hours=1)
MONTH: Final = timedelta(days=30)
AT_MOST: Final = timedelta(seconds=2)
"""How long a change that was not announced may take to reach every worker."""

BANKS: Final = ("ICBC", "CCB", "ABC")
BURST: Final = 100
KINDS: Final = (
    "plain",
    "moved",
    "moved late",
    "extended",
    "confirmed",
    "cancelled",
    "drill",
    "started now",
    "emergency",
)
OVER: Final = frozenset({"window.ended", "window.cancelled", "survey.requested"})


@dataclass
class Planned:
    """A window as its operator means it: when to say what."""

    plan: dict[str, Any]
    kind: str
    starts_at: datetime
    ends_at: datetime
    actions: list[tuple[datetime, str, dict[str, Any]]] = field(default_factory=list)


def _plan_windows(chance: Random, begin: datetime, count: int) -> list[Planned]:
    planned = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        # Every fourth lies over the one before it.
        overlapped = planned[-1].starts_at + HOUR / 2 if number % 4 == 3 else None
        starts_at = overlapped or begin + timedelta(days=1) + (MONTH - timedelta(days=2)) * chance.random()
        ends_at = starts_at + HOUR * chance.choice((1, 2, 3))
        functions = chance.sample(["transfer", "withdrawal", "top_up"], chance.choice((1, 2, 3)))
        plan = {
            "window_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "title": f"Window {number}",
            "reason": "Upgrade of the ledger",
            "functions": functions,
            "scope": {"banks": chance.sample(BANKS, 1) if chance.random() < 0.2 else []},
            "treatment": chance.choice(["hold", "hold", "reject"]),
            "ends": "confirmed" if kind == "confirmed" else "automatic",
            "drill": kind == "drill",
        }
        one = Planned(plan, kind, starts_at, ends_at)
        one.actions = _actions(one, begin, chance)
        planned.append(one)
    return planned


def _actions(one: Planned, begin: datetime, chance: Random) -> list[tuple[datetime, str, dict[str, Any]]]:
    start, end, id_ = one.starts_at, one.ends_at, {"window_id": one.plan["window_id"]}
    times = {"starts_at": as_text(start), "ends_at": as_text(end)}
    said_at = max(begin, start - timedelta(days=chance.choice((0.02, 0.5, 3, 9))))
    schedule = (start if one.kind == "emergency" else said_at, "window.schedule", one.plan | times)
    changes: dict[str, list[tuple[datetime, str, dict[str, Any]]]] = {
        "moved": [
            (
                said_at + (start - said_at) / 2,
                "window.reschedule",
                {**id_, "starts_at": as_text(start + HOUR), "ends_at": as_text(end + 2 * HOUR)},
            )
        ],
        "moved late": [
            (
                start + (end - start) / 2,
                "window.reschedule",
                {**id_, "starts_at": as_text(end + HOUR), "ends_at": as_text(end + 2 * HOUR)},
            )
        ],
        "extended": [
            (start + (end - start) / 2, "window.extend", {**id_, "ends_at": as_text(end + HOUR), "reason": "Late"})
        ],
        "confirmed": [(end + HOUR / 2, "window.end", id_)],
        "cancelled": [(said_at + (start - said_at) / 2, "window.cancel", id_)],
        "started now": [(said_at + (start - said_at) / 2, "window.start_now", id_)],
    }
    return [schedule, *changes.get(one.kind, [])]


def _bursts(chance: Random, begin: datetime, planned: list[Planned], count: int) -> list[datetime]:
    """Return when transfers are asked for: half of them about windows, where it matters."""
    moments = [begin + MONTH * chance.random() for _ in range(count // 2)]
    for number in range(count - len(moments)):
        one = planned[number % len(planned)]
        moments.append(one.starts_at + (one.ends_at - one.starts_at) * chance.uniform(-0.2, 1.6))
    return [moment for moment in moments if moment > begin]


class Month:
    """Lives through a month of a running system, and remembers what it was asked for."""

    def __init__(self, system: System, chance: Random, kills: int, steps: int) -> None:
        self.system = system
        self.clock = Clock(system)
        self.transfers = Reader(system.kafka)
        self.windows = Reader(system.kafka, "maintenance.events")
        self.requested: list[str] = []
        self._chance = chance
        self._kill_at = set(chance.sample(range(steps), kills))
        self._wallets = system.open_wallets(20, overdraft_minor=10**12)
        self.killed = 0

    def step(self, number: int, moment: datetime, actions: list[tuple[str, dict[str, Any]]], *, asks: bool) -> None:
        """Go on to a moment, say what is to be said then, and ask for transfers."""
        kill = number in self._kill_at
        if kill and self._chance.random() < 0.5:
            self._kill()
        self.clock.reach(moment)
        for type_, data in actions:
            before = len(self.windows.records)
            self.system.send(type_, data["window_id"], data, topic="maintenance.commands")
            self.system.flush()
            self.windows.read_until(lambda: len(self.windows.records) > before, 120)  # noqa: B023 - used at once
        if kill:
            self._kill()
        if asks:
            self._ask()

    def _kill(self) -> None:
        services = self.system.endpoints()["services"]
        os.kill(self._chance.choice(services)["pid"], signal.SIGKILL)
        self.killed += 1

    def is_alive(self) -> bool:
        services = self.system.endpoints()["services"]
        return len(services) == 3 and all(Path(f"/proc/{service['pid']}").exists() for service in services)

    def _ask(self) -> None:
        asked = []
        for _ in range(BURST):
            payer, payee = self._chance.sample(self._wallets, 2)
            share, bank = self._chance.random(), self._chance.choice(BANKS)
            said = {"on_maintenance": "reject"} if self._chance.random() < 0.1 else {}
            if share < 0.6:
                asked.append(self.system.request("p2p", payer, payee, 1, **said))
            elif share < 0.8:
                asked.append(self.system.request("withdrawal", payer, f"bank:{bank}:1", 1, **said))
            else:
                asked.append(self.system.request("top_up", f"bank:{bank}:1", payee, 1, **said))
        self.requested += asked
        self.system.flush()
        self.transfers.read_until(lambda: all(self.transfers.status(id_) for id_ in asked) and self.is_alive(), 120)


@pytest.mark.parametrize(
    ("count", "transfers", "kills"),
    [
        (9, 1_000, 3),
        pytest.param(40, 50_000, 0, marks=pytest.mark.soak),
        pytest.param(40, 50_000, 25, marks=pytest.mark.soak),
    ],
)
async def test_a_month_of_windows(tmp_path: Path, count: int, transfers: int, kills: int) -> None:
    chance = dice(count + kills)
    home, bank = tmp_path / "home", {"failure_rate": 0.02}
    with running_system(home, maintainers=1, notifiers=1, bank=bank, movable_clock=True) as system:
        begin = datetime.now(UTC) + HOUR
        planned = _plan_windows(chance, begin, count)
        said = [(at, type_, data) for one in planned for at, type_, data in one.actions]
        asked = [(at, "", {}) for at in _bursts(chance, begin, planned, transfers // BURST)]
        steps = sorted([*said, *asked], key=lambda step: step[0])
        month = Month(system, chance, kills, len(steps))
        month.clock.reach(begin)
        for number, (at, type_, data) in enumerate(steps):
            month.step(number, at, [(type_, data)] if type_ else [], asks=not type_)
        month.clock.reach(max(begin + MONTH, month.clock.now()) + timedelta(days=5))
        ended = {"settled", "failed", "refunded"}
        month.transfers.read_until(lambda: all(month.transfers.status(id_) in ended for id_ in month.requested), 240)
        month.windows.read_until(lambda: len(_named(month.windows, OVER)) == count, 120)
        month.clock.reach(month.clock.now() + 2 * HOUR)
        month.windows.read_until(lambda: len(_named(month.windows, {"survey.requested"})) == _to_survey(planned), 120)
        assert month.killed >= kills
        history = _history(month.windows)
        _check_notices(planned, history)
        _check_gate(month.transfers, history)
        _check_order(month.transfers)
        await _check_books(system, history)


def _named(reader: Reader, types: Collection[str]) -> set[str]:
    """Return the windows that had an event of these types."""
    return {headers["ce_subject"] for headers, _ in reader.records if short_type(headers["ce_type"]) in types}


def _to_survey(planned: list[Planned]) -> int:
    return sum(one.kind != "cancelled" for one in planned)


# --- What the windows said ---

_Event = tuple[str, dict[str, Any]]


def _history(reader: Reader) -> dict[str, list[_Event]]:
    """Return each window's events in order; one that was published again has the same bytes."""
    seen: dict[str, bytes] = {}
    history: defaultdict[str, list[_Event]] = defaultdict(list)
    for headers, value in reader.records:
        assert seen.setdefault(headers["ce_id"], value) == value, "a repeated event has other bytes"
    for headers, value in reader.records:
        if seen.pop(headers["ce_id"], None) is not None:
            type_ = short_type(headers["ce_type"])
            history[headers["ce_subject"]].append((type_, orjson.loads(value)))
    refused = [event for events in history.values() for type_, event in events if type_ == "window.refused"]
    assert not refused, refused
    for events in history.values():
        events.sort(key=lambda event: event[1]["revision"])
        assert [event["revision"] for _, event in events] == list(range(1, len(events) + 1))
    return history


_LIVES: Final = {
    "plain": ["window.scheduled", "window.started", "window.ended"],
    "moved": ["window.scheduled", "window.rescheduled", "window.started", "window.ended"],
    "moved late": ["window.scheduled", "window.started", "window.rescheduled", "window.started", "window.ended"],
    "extended": ["window.scheduled", "window.started", "window.extended", "window.ended"],
    "confirmed": ["window.scheduled", "window.started", "window.overrun", "window.ended"],
    "cancelled": ["window.scheduled", "window.cancelled"],
    "drill": ["window.scheduled", "window.started", "window.ended"],
    "started now": ["window.scheduled", "window.started", "window.ended"],
    "emergency": ["window.scheduled", "window.started", "window.ended"],
}


def _check_notices(planned: list[Planned], history: dict[str, list[_Event]]) -> None:
    for one in planned:
        events = history[one.plan["window_id"]]
        life = [type_ for type_, _ in events if type_ not in {"window.reminder", "survey.requested"}]
        assert [type_ for type_ in life if type_ != "window.escalated"] == _LIVES[one.kind], one.kind
        reminded = Counter(
            (event["starts_at"], event["before"]) for type_, event in events if type_ == "window.reminder"
        )
        assert all(times == 1 for times in reminded.values())
        _check_reminders(events)
        if one.kind != "cancelled":
            assert [type_ for type_, _ in events].count("survey.requested") == 1


def _check_reminders(events: list[_Event]) -> None:
    """Each plan announces the reminders that it has time for, unless the window changes before."""
    ahead = {"7d": timedelta(days=7), "1d": timedelta(days=1), "1h": HOUR}
    for number, (type_, event) in enumerate(events):
        if type_ not in {"window.scheduled", "window.rescheduled"}:
            continue
        starts_at = parse_time(event["starts_at"])
        following = next(
            (parse_time(later["occurred_at"]) for kind, later in events[number + 1 :] if kind != "window.reminder"),
            starts_at,
        )
        due = {name for name, by in ahead.items() if parse_time(event["occurred_at"]) < starts_at - by < following}
        came = {
            later["before"]
            for kind, later in events[number + 1 :]
            if kind == "window.reminder" and later["starts_at"] == event["starts_at"]
        }
        assert came == due
        assert not set(event.get("skipped", ())) & due


# --- What they did ---


def _is_closed(events: list[_Event], times: list[datetime], at: datetime, known_at: datetime) -> bool:
    last = bisect_right(times, known_at) - 1
    if last < 0:
        return False
    type_, event = events[last]
    if event["drill"] or type_ in OVER or at < parse_time(event["starts_at"]):
        return False
    return event["ends"] == "confirmed" or at < parse_time(event["ends_at"])


def _covers(event: dict[str, Any], transfer: dict[str, Any]) -> bool:
    function = {"p2p": "transfer", "withdrawal": "withdrawal", "top_up": "top_up"}[transfer["kind"]]
    banks = {party.split(":")[1] for party in (transfer["payer"], transfer["payee"]) if party.startswith("bank:")}
    scope = event["scope"].get("banks", [])
    return function in event["functions"] and (not scope or bool(banks & set(scope)))


def _check_gate(reader: Reader, history: dict[str, list[_Event]]) -> None:
    times = {id_: [parse_time(event["occurred_at"]) for _, event in events] for id_, events in history.items()}
    counts: Counter[str] = Counter()
    started: set[str] = set()
    for headers, value in reader.records:
        event = orjson.loads(value)
        status = event.get("status")
        if not headers["ce_type"].startswith("sluice.transfer.") or "transfer_id" not in event or status is None:
            continue
        at, id_ = parse_time(event["occurred_at"]), event["transfer_id"]
        closed_by = {
            window
            for window, events in history.items()
            if _covers(events[0][1], event)
            and _is_closed(events, times[window], at, at)
            and _is_closed(events, times[window], at, at - AT_MOST)
        }
        if status in {"settled", "sent"} and id_ not in started:
            started.add(id_)
            assert not closed_by, f"{id_} started at {at} inside {closed_by}"
            counts["started"] += 1
        is_refused = status == "failed" and event["reason"]["code"] == "maintenance"
        if status == "held" or is_refused:
            window = event["window_id"]
            assert _covers(history[window][0][1], event)
            assert _is_closed(history[window], times[window], at, at) or _is_closed(
                history[window], times[window], at, at - AT_MOST
            ), f"{id_} was stopped at {at} outside {window}"
            counts[status] += 1
    assert min(counts["started"], counts["held"], counts["failed"]) > 10, counts


def _check_order(reader: Reader) -> None:
    """What one window held of one wallet goes on in the order in which it was asked for."""
    held: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    released: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    waits_for: dict[str, tuple[str, str]] = {}
    first: dict[str, int] = {}
    seqs: Counter[str] = Counter()
    for headers, value in reader.records:
        event = orjson.loads(value)
        if (
            not headers["ce_type"].startswith("sluice.transfer.")
            or event.get("seq", 0) <= seqs[event.get("transfer_id")]
        ):
            continue
        id_ = event["transfer_id"]
        seqs[id_] = event["seq"]
        if event["status"] == "held":
            first.setdefault(id_, len(first))
            wallet = next(event[party] for party in ("payer", "payee") if event[party].startswith("wallet:"))
            waits_for[id_] = (wallet, event["window_id"])
        elif id_ in waits_for:
            released[waits_for.pop(id_)].append(id_)
    assert not waits_for
    for key, ids in released.items():
        held[key] = sorted(ids, key=first.__getitem__)
        assert ids == held[key], f"{key} was released out of order"


async def _check_books(system: System, history: dict[str, list[_Event]]) -> None:
    connection = await asyncpg.connect(system.database, server_settings={"search_path": "transfer"})
    try:
        assert await transfer_records.find_all(connection) == []
        tallies = await transfer_records.tally_windows(connection, [uuid.UUID(id_) for id_ in history])
        assert all(tally.held == tally.released and tally.waiting == 0 for tally in tallies.values())
        await connection.execute("set search_path to maintenance")
        assert (await windows_records.audit(connection)).findings == []
        await connection.execute("set search_path to notify")
        drills = {id_ for id_, events in history.items() if events[0][1]["drill"]}

        async def are_told() -> bool:
            """Tell whether the notifier, which follows behind, told of every window but the drills, and of no drill."""
            broadcasts = await connection.fetch("select notification_id from broadcast")
            return {row[0].split(".")[0] for row in broadcasts} == history.keys() - drills

        await wait_until(are_told, deadline_s=60, what="everybody told of every window")
    finally:
        await connection.close()
