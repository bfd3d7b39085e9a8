"""The streams of insight: each reads a topic, one record at a time, and keeps what it counts in tables."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from faust.exceptions import ConsumerNotStarted
from mode import CrashingSupervisor

from schemas import registry
from schemas.envelope import PASSED_OVER, Envelope, Malformed, decode, encode_headers
from schemas.erasure import CustomerErase
from schemas.fields import as_text
from schemas.notify import NotificationEvent
from schemas.transfer import TransferEvent
from services.insight import decide, metrics, topics
from services.insight.counts import MinuteCounts
from services.insight.engine import table_of_counts
from services.insight.model import BEGINNING, Failure, Suspicion
from services.runtime.message import Cause
from services.runtime.metrics import RECORDS
from services.runtime.publisher import murmur2
from services.runtime.service import only

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import faust
    from faust.types import TP, EventT

    from services.insight.model import Flag
    from services.insight.policy import Policy, Rule
    from services.runtime.clock import Clock
    from services.runtime.pausing import Pausing

SOURCE: Final = "sluice/insight"
_FAILED: Final = "failed"
_LOOK: Final = "look"
_FORGET: Final = "forget"
_LONG_AGO: Final = BEGINNING.isoformat()
"""Of a note that does not say when it was told."""

_TYPES: Final = {
    "transfer.events": only(registry.TOPICS["transfer.events"], decide.OUTCOMES),
    "notify.events": only(
        registry.TOPICS["notify.events"], {name for name in registry.TOPICS["notify.events"] if "notification." in name}
    ),
    "erasure.events": only(registry.TOPICS["erasure.events"], {"customer.erase"}),
}


_MOST_AT_ONCE: Final = 500
"""Records that are handled together: some 40 ms of work."""

_Note = dict[str, Any]
"""What is told of a customer, and to whoever reads that customer's notes."""


class _Due(NamedTuple):
    """When a suspicion is to be looked at, and whether a flag is in force until then."""

    at: datetime
    is_flag: bool


class Streams:
    """Declares the tables and agents of an application, and decides by the policy.

    What concerns a customer is told on a topic of insight's own, by customer, because transfers are ordered by wallet:
    so one worker knows everything about somebody, and also the clock speaks only through that topic.
    """

    def __init__(
        self,
        app: faust.App,
        policy: Policy,
        clock: Clock,
        prefix: str,
        shapes: Mapping[str, topics.Shape],
        pausing: Pausing,
    ) -> None:
        self._app = app
        self._pausing = pausing
        self._policy = policy
        self._clock = clock
        self._prefix = prefix
        self._rules = {rule.name: rule for rule in policy.rules}
        self._asked: set[tuple[str, str]] = set()
        # When what the table has is to be looked at; None until it was read.
        self._due: dict[tuple[str, str], _Due] | None = None
        self._names = set(self._rules)
        by_wallet, by_customer = shapes["transfer.events"].partitions, shapes["notify.events"].partitions
        self._notes_in = by_wallet
        self._suspicions = app.Table(topics.SUSPICIONS, partitions=by_wallet)
        minutes = policy.counts.minutes_kept
        self.outcomes = MinuteCounts(table_of_counts(app, topics.OUTCOMES, by_wallet), minutes)
        self.deliveries = MinuteCounts(table_of_counts(app, topics.DELIVERIES, by_customer), minutes)
        self._risks = self._topic(topics.WRITTEN)
        self._notes = app.topic(prefix + topics.NOTES, value_serializer="json", partitions=by_wallet)
        for topic, read in {
            "transfer.events": self._read_transfer,
            "notify.events": self._read_notice,
            "erasure.events": self._read_erasure,
        }.items():
            self._agent(self._topic(topic), self._reading(topic, read))
        self._agent(self._notes, self._read_notes)

    def _topic(self, name: str) -> Any:
        return self._app.topic(
            self._prefix + name, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes
        )

    def _agent(self, topic: Any, function: Any) -> None:
        # More than one at a time would commit past what is in hand. What fails is read again by a new process.
        name = f"insight.{topic.get_topic_name()}"
        self._app.agent(topic, name=name, concurrency=1, supervisor_strategy=CrashingSupervisor)(function)

    async def _batches(self, stream: faust.Stream[Any], most: int) -> AsyncIterator[list[EventT[Any]]]:
        """Yield what is there already, so many events at most at a time, and none while a person has paused us.

        Only what was handled counts as read: what is in hand when the worker ends is read by the next one. What is in
        hand when the group moves partitions is dropped, and read again by whoever has its partition now.
        """
        batch: list[EventT[Any]] = []
        waiting: Any = stream.channel
        async for event in stream.noack().events():
            if self._pausing.pause is not None:
                await self._pausing.wait_until_over()
            batch.append(event)
            if len(batch) < most and not waiting.empty():
                continue
            ours = [one for one in batch if one.message.generation_id == self._app.consumer_generation_id]
            batch = []
            yield ours
            for one in ours:
                one.ack()

    # --- Reading what others say ---

    def _reading(self, topic: str, read: Any) -> Any:
        async def agent(stream: faust.Stream[bytes]) -> None:
            handled = RECORDS.labels(topic)
            async for batch in self._batches(stream, _MOST_AT_ONCE):
                notes = []
                for event in batch:
                    found = decode(_headers_of(event), event.message.value, _TYPES[topic])
                    if isinstance(found, Envelope):
                        notes.append(read(event, found))
                    elif found is not PASSED_OVER:
                        _count_unreadable(topic, found)
                # Nothing was awaited since the group gave us these partitions: nobody else counts in them.
                self.outcomes.save()
                self.deliveries.save()
                await self._tell([note for note in notes if note is not None])
                handled.inc(len(batch))

        return agent

    def _read_transfer(self, event: EventT[bytes], found: Envelope) -> _Note | None:
        data = found.data
        if not isinstance(data, TransferEvent):
            return None
        self._count_outcome(event, found.type, data)
        if found.type == "transfer.failed" and data.reason is not None and data.payer_customer_id is not None:
            reason = data.reason.code
            if any(reason in rule.reasons for rule in self._policy.rules):
                return {
                    "kind": _FAILED,
                    "customer_id": data.payer_customer_id,
                    "failure": [data.occurred_at.isoformat(), str(data.transfer_id), reason],
                    "told_at": self._clock.now().isoformat(),
                    "correlation_id": found.correlation_id or found.id,
                    "traceparent": found.traceparent,
                }
        return None

    def _count_outcome(self, event: EventT[bytes], type_: str, data: TransferEvent) -> None:
        outcome = decide.outcome_of(type_, data)
        if outcome is None:
            return
        where, offset = event.message.partition, event.message.offset
        if not self.outcomes.has_room(where, data.occurred_at, outcome, self._policy.counts.most_outcomes):
            outcome = decide.as_other(outcome)
        if self.outcomes.count(where, offset, data.occurred_at, outcome):
            metrics.OUTCOMES.labels(*outcome).inc()

    def _read_notice(self, event: EventT[bytes], found: Envelope) -> None:
        if isinstance(found.data, NotificationEvent):
            delivery = decide.delivery_of(found.type, found.data)
            if self.deliveries.count(event.message.partition, event.message.offset, found.data.occurred_at, delivery):
                metrics.DELIVERIES.labels(*delivery).inc()

    def _read_erasure(self, _event: EventT[bytes], found: Envelope) -> _Note | None:
        if isinstance(found.data, CustomerErase):
            return {"kind": _FORGET, "customer_id": found.data.customer_id}
        return None

    # --- What concerns a customer ---

    async def _tell(self, notes: Sequence[_Note]) -> None:
        sent = [await self._notes.send(key=note["customer_id"].encode(), value=note) for note in notes]
        # Only then do the records that brought them about count as read.
        for one in sent:
            await one

    async def _read_notes(self, stream: faust.Stream[Any]) -> None:
        async for batch in self._batches(stream, 1):
            for event in batch:
                await self._read_note(event.value)

    async def _read_note(self, note: Any) -> None:
        customer_id = note["customer_id"]
        if note["kind"] == _FAILED:
            at, transfer_id, reason = note["failure"]
            failure = Failure(datetime.fromisoformat(at), transfer_id, reason)
            for rule in self._policy.rules:
                if reason in rule.reasons:
                    await self._count_failure(customer_id, rule, failure, note)
        elif note["kind"] == _LOOK:
            await self._look(customer_id, note["rule"])
        else:
            for rule_name in self._rule_names():
                if (customer_id, rule_name) in self._suspicions:
                    await self._forget(customer_id, rule_name)

    async def _count_failure(self, customer_id: str, rule: Rule, failure: Failure, note: Mapping[str, Any]) -> None:
        known = self._known(customer_id, rule.name)
        cause = Cause(note.get("correlation_id"), note.get("traceparent"))
        suspicion = decide.count_failure(known, failure, customer_id, rule, cause)
        if suspicion == known:
            return
        if known.flag is not None and suspicion.flag != known.flag:
            # It was over, and the clock's note of that comes behind this one.
            await self._say_cleared(known.flag, suspicion.flag)
        if suspicion.flag is not None and suspicion.flag != known.flag:
            if suspicion.flag.until > self._clock.now():
                # Before it is remembered: cut off in between, it is said again, with the same id.
                await self._say_flagged(suspicion.flag)
            elif suspicion.flag.until <= datetime.fromisoformat(note.get("told_at", _LONG_AGO)):
                # It was over before anybody could say it: nobody has to be told of its end.
                suspicion = decide.cleared(suspicion)
        self._keep(customer_id, rule.name, suspicion)

    async def _look(self, customer_id: str, rule_name: str) -> None:
        self._asked.discard((customer_id, rule_name))
        known = self._known(customer_id, rule_name)
        if decide.due_at(known, self._rules.get(rule_name)) > self._clock.now():
            return
        if known.flag is None:
            self._drop(customer_id, rule_name)
        else:
            await self._say_cleared(known.flag)
            self._keep(customer_id, rule_name, decide.cleared(known))

    async def _forget(self, customer_id: str, rule_name: str) -> None:
        known = self._known(customer_id, rule_name)
        if known.flag is not None:
            await self._say_cleared(known.flag)
        self._drop(customer_id, rule_name)

    def _keep(self, customer_id: str, rule_name: str, suspicion: Suspicion) -> None:
        self._suspicions[customer_id, rule_name] = suspicion.as_json()
        if self._due is not None:
            self._due[customer_id, rule_name] = self._due_of(suspicion, rule_name)

    def _drop(self, customer_id: str, rule_name: str) -> None:
        self._suspicions.pop((customer_id, rule_name), None)
        if self._due is not None:
            self._due.pop((customer_id, rule_name), None)

    def _due_of(self, suspicion: Suspicion, rule_name: str) -> _Due:
        return _Due(decide.due_at(suspicion, self._rules.get(rule_name)), is_flag=suspicion.flag is not None)

    def _known(self, customer_id: str, rule_name: str) -> Suspicion:
        body = self._suspicions.get((customer_id, rule_name))
        return Suspicion.of_json(body) if body else Suspicion()

    async def look_at_clock(self) -> None:
        """Have what is over, or too old to count, looked at by whoever reads that customer's notes."""
        dues, now = self._dues(), self._clock.now()
        metrics.FLAGS.set(sum(due.is_flag for due in dues.values()))
        for key in [key for key, due in dues.items() if due.at <= now and key not in self._asked]:
            self._asked.add(key)
            await self._tell([{"kind": _LOOK, "customer_id": key[0], "rule": key[1]}])

    def _dues(self) -> dict[tuple[str, str], _Due]:
        """Return when what is known is to be looked at, having read the table once since it was read anew."""
        if self._due is None:
            # The table may have what other workers read, too: what stood here before, and what stands by for them.
            ours = self.partitions_of(topics.NOTES)
            own = [key for key in self._suspicions if murmur2(key[0].encode()) % self._notes_in in ours]
            known = {key: Suspicion.of_json(self._suspicions[key]) for key in own}
            self._due = {key: self._due_of(suspicion, key[1]) for key, suspicion in known.items()}
            self._names = {*self._rules, *(rule_name for _, rule_name in known)}
        return self._due

    def _rule_names(self) -> set[str]:
        """Return the names of the policy's rules, and of those that it had when something was counted."""
        self._dues()
        return self._names

    # --- Saying it ---

    async def _say_flagged(self, flag: Flag) -> None:
        await self._say("risk.flagged", flag, flag.id, flag.since, {"until": as_text(flag.until)})
        metrics.FLAGGED.labels(flag.rule).inc()

    async def _say_cleared(self, flag: Flag, following: Flag | None = None) -> None:
        await self._say("risk.cleared", flag, decide.cleared_id(flag), flag.until, {}, following)

    async def _say(
        self,
        type_: str,
        flag: Flag,
        id_: str,
        at: datetime,
        more: Mapping[str, str],
        following: Flag | None = None,
    ) -> None:
        headers = encode_headers(
            type_, id=id_, source=SOURCE, time=as_text(at), subject=flag.customer_id, **flag.cause._asdict()
        )
        body = {"customer_id": flag.customer_id, "rule": flag.rule, **more}
        flags = [*self._flags_of(flag.customer_id), *([] if following is None else [following])]
        if (until := decide.restricted_until(flag, flags, self._clock.now())) is not None:
            body["restricted_until"] = as_text(until)
        sent = await self._risks.send(key=flag.customer_id.encode(), value=orjson.dumps(body), headers=headers)
        await sent

    def _flags_of(self, customer_id: str) -> list[Flag]:
        known = [self._known(customer_id, name) for name in self._rule_names()]
        return [one.flag for one in known if one.flag is not None]

    # --- What the worker asks ---

    def partitions_of(self, topic: str) -> set[int]:
        """Return the partitions of a topic that are this worker's."""
        return {place.partition for place in assigned(self._app) if place.topic == self._prefix + topic}

    async def look_again(self) -> None:
        """Take note that the tables were read anew."""
        self._asked.clear()
        self._due = None
        self.outcomes.look_again()
        self.deliveries.look_again()


def assigned(app: faust.App) -> set[TP]:
    """Return the partitions that an application has; none while its consumer has not begun."""
    try:
        return app.consumer.assignment()
    except ConsumerNotStarted:
        return set()


def _headers_of(event: EventT[bytes]) -> list[tuple[str, bytes | None]]:
    headers: Any = event.message.headers or ()
    return list(headers.items() if isinstance(headers, dict) else headers)


def _count_unreadable(topic: str, found: Malformed) -> None:
    metrics.UNREADABLE.labels(topic, found.reason).inc()
