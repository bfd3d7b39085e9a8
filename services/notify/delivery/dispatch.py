"""Takes messages that are due, hands them to gateways, and records what these answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic

import stamina
import structlog

from services.notify.broadcast.texts import BroadcastTexts, Texts
from services.notify.contacts import open_contacts
from services.notify.delivery import store
from services.notify.delivery.attempts import circumstances, real_now, record_steps, reference_of
from services.notify.delivery.caretaker import Caretaker
from services.notify.delivery.decide import SENDING, after_answer
from services.notify.delivery.health import Health
from services.notify.delivery.metrics import GATEWAY_ANSWERS, GATEWAY_WEIGHT
from services.notify.delivery.store import Early, Out, Taken, Turn
from services.notify.gateways.gateway import TOO_LATE, Answer, Outcome
from services.notify.gateways.quoting import kept
from services.notify.gateways.route import Leaving, M, Route
from services.notify.listening import listen, wait_for
from services.notify.model import Channel, Locale, Priority, Text
from services.notify.sealed import open_text
from services.notify.unsubscribe_desk import unsubscribe_address
from services.runtime.database import TRANSIENT
from services.runtime.log import error_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.notify.decide import Rules
    from services.notify.sealed import Keys
    from services.runtime.database import Connection
    from services.runtime.service import Surroundings

_LOOK_EVERY_S: Final = 1.0
SENDERS: Final = (Priority.BROADCAST, Priority.BROADCAST, Priority.NORMAL)
"""The last priority that each of a gateway's senders takes: one is always free for what is not a broadcast."""
CONNECTIONS_A_GATEWAY: Final = len(SENDERS)
"""Each sender uses a connection to the database."""
OWN_CONNECTIONS: Final = 2
"""One is listened on, and one is for what is looked after."""
_MARGIN_S: Final = 5.0
"""How long it may take from taking messages to handing them over, and from the answers to recording these."""

_LOG = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Dispatcher:
    """Runs beside the consumer: some senders for each gateway, and one who looks after what was left.

    `url` is where people reach the notifier, if they do, for mails that say how to get no more of their kind.
    """

    routes: Sequence[Route[Any]]
    rules: Rules
    keys: Keys
    url: str
    _wakes: list[asyncio.Event] = field(default_factory=list)

    async def run(self, around: Surroundings) -> None:
        """Work until told to stop; what is being handed over then is brought to its end."""
        texts = BroadcastTexts(around.pool)
        async with asyncio.TaskGroup() as group:
            for route in self.routes:
                group.create_task(route.gateway.start())
                health = Health(self.rules.policy.failover)
                GATEWAY_WEIGHT.labels(route.gateway.name).set(health.weight)
                for last_priority in SENDERS:
                    wake = asyncio.Event()
                    self._wakes.append(wake)
                    sender = _Sender(route, last_priority, health, self.rules, self.keys, texts, self.url, around, wake)
                    group.create_task(sender.run())
            group.create_task(Caretaker(self.routes, self.rules.policy, around).run())
            group.create_task(listen(around.pool, "delivery", around.stopping, self._wake_all, begin=self._wake_all))
        for route in self.routes:
            await route.gateway.close()

    def _wake_all(self, *_notification: object) -> None:
        for wake in self._wakes:
            wake.set()


@dataclass(slots=True)
class _Sender(Generic[M]):
    route: Route[M]
    last_priority: Priority
    health: Health
    rules: Rules
    keys: Keys
    texts: BroadcastTexts
    url: str
    around: Surroundings
    wake: asyncio.Event

    async def run(self) -> None:
        while not self.around.stopping.is_set():
            try:
                is_at_work = await self._send_some()
            except TRANSIENT as error:
                _LOG.warning("dispatch_retried", gateway=self.route.gateway.name, **error_fields(error))
                await wait_for(self.around.stopping, within_s=0.5)
                continue
            if not is_at_work:
                await self._wait_for_work()
            elif (rest_s := self.health.rest_s()) > 0:
                await wait_for(self.around.stopping, within_s=rest_s)

    async def _wait_for_work(self) -> None:
        await wait_for(self.wake, self.around.stopping, within_s=_LOOK_EVERY_S)
        self.wake.clear()

    async def _send_some(self) -> bool:
        """Take messages, hand them over, and record what became of them; return whether there may be more."""
        began_s = time.monotonic()
        taken, put_off = await self._take()
        if not taken:
            # What was put off is out of the way of what comes after it.
            return put_off > 0
        try:
            texts = await self.texts.of(one.notification_id for one in taken)
        except TRANSIENT:
            await self._record_until_done(_not_begun(taken))
            raise
        if time.monotonic() - began_s > _MARGIN_S:
            # This process stood still: by now they may count as lost, and be given to another.
            await self._record_until_done(_not_begun(taken))
            return True
        ready: list[tuple[Taken, M]]
        unusable: list[tuple[Taken, Answer]]
        ready, unusable = self._prepare(taken, texts)
        await self._record_until_done([*unusable, *await self._hand_over(ready)])
        return True

    async def _hand_over(self, ready: Sequence[tuple[Taken, M]]) -> list[tuple[Taken, Answer]]:
        if not ready:
            return []
        began_s = time.monotonic()
        until = asyncio.get_running_loop().time() + self.rules.policy.delivering.hand_over_within_s
        answers = await self.route.gateway.send([message for _, message in ready], until)
        ended_s = time.monotonic()
        self.health.note(answers, ended_s - began_s, ended_s)
        self._count(answers)
        return [(one, kept(answer, message)) for (one, message), answer in zip(ready, answers, strict=True)]

    def _count(self, answers: Sequence[Answer]) -> None:
        name = self.route.gateway.name
        GATEWAY_WEIGHT.labels(name).set(self.health.weight)
        for outcome, count in Counter(answer.outcome for answer in answers).items():
            GATEWAY_ANSWERS.labels(name, outcome).inc(count)

    async def _take(self) -> Turn:
        limit = self.health.limit(self.route.gateway.batch_size)
        async with self.around.pool.acquire() as connection, connection.transaction():
            if self.route.rate_per_s is None:
                return await self._take_of(connection, limit)
            now, name = self.around.clock.now(), self.route.gateway.name
            allowed = await store.fill_allowance(connection, name, self.route.rate_per_s, now)
            if allowed <= 0:
                return Turn([], 0)
            turn = await self._take_of(connection, min(limit, allowed))
            if turn.taken:
                await store.draw_allowance(connection, name, len(turn.taken))
            return turn

    async def _take_of(self, connection: Connection, limit: int) -> Turn:
        now = self.around.clock.now()
        return await store.take(
            connection,
            self.route.gateway.name,
            self.route.channel,
            now,
            answered_by=real_now() + timedelta(seconds=self._lease_s()),
            limit=limit,
            ladder=self.rules.policy.sms.ladder,
            left_to_others=timedelta(seconds=self.rules.policy.failover.left_to_others_s),
            last_priority=self.last_priority,
        )

    def _lease_s(self) -> float:
        """Return how long nobody else touches what was taken: longer than handing it over can take."""
        return self.rules.policy.delivering.hand_over_within_s + self.route.gateway.longest_s + 2 * _MARGIN_S

    def _prepare(
        self, taken: Sequence[Taken], texts: Mapping[str, Texts]
    ) -> tuple[list[tuple[Taken, M]], list[tuple[Taken, Answer]]]:
        """Return the messages that can leave, and why the others cannot any more."""
        ready: list[tuple[Taken, M]] = []
        unusable: list[tuple[Taken, Answer]] = []
        for one in taken:
            reference = reference_of(one.delivery_id, one.number)
            if one.reach != "good" or one.contacts is None or one.wrapped_key is None:
                unusable.append((one, Answer(reference, Outcome.UNUSABLE, why=one.reach)))
                continue
            key = self.keys.unwrap(one.customer_id, one.wrapped_key)
            locale, text = self._words(one, key, texts)
            contacts = open_contacts(key, one.customer_id, one.contacts)
            leaving = self._leaving(one.customer_id, locale) if one.is_marketing else None
            ready.append((one, self.route.make(reference, contacts, locale, text, leaving)))
        return ready, unusable

    def _leaving(self, customer_id: str, locale: str) -> Leaving:
        words = self.rules.wording.leaving(Locale(locale))
        if not self.url:
            return Leaving(words.in_app.strip())
        return Leaving(words.link, unsubscribe_address(self.url, self.keys.master_key, customer_id))

    def _words(self, one: Taken, key: bytes, texts: Mapping[str, Texts]) -> tuple[str, Text]:
        """Return the language and the words of a message: its own, or those of its broadcast."""
        if one.sealed is not None:
            return open_text(key, one.delivery_id, one.sealed)
        said = texts[one.notification_id or ""][one.locale]
        return one.locale, Text("", said.sms) if self.route.channel == Channel.SMS else Text(said.title, said.body)

    async def _record_until_done(self, answers: Sequence[tuple[Taken, Answer]]) -> None:
        retries = stamina.retry_context(TRANSIENT, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0)
        async for attempt in retries:
            with attempt:
                await self._record(answers)

    async def _record(self, answers: Sequence[tuple[Taken, Answer]]) -> None:
        async with self.around.pool.acquire() as connection, connection.transaction():
            out = await store.lock(connection, [one.delivery_id for one, _ in answers])
            present = [
                (out[one.delivery_id], answer)
                for one, answer in answers
                if one.delivery_id in out and _is_at(out[one.delivery_id], one)
            ]
            present = await _with_early_receipts(connection, present)
            around = circumstances(self.route, self.rules.policy, self.around.clock)
            steps = [after_answer(one, answer, around) for one, answer in present]
            await record_steps(connection, steps, around)
        if dead := [(one.customer_id, one.contacts) for one, answer in answers if answer.is_dead]:
            # By itself: whoever erases somebody locks customers before messages.
            async with self.around.pool.acquire() as connection:
                await store.mark_dead(connection, self.route.channel, dead)


def _not_begun(taken: Sequence[Taken]) -> list[tuple[Taken, Answer]]:
    """Return that messages were not handed over at all."""
    return [(one, Answer(reference_of(one.delivery_id, one.number), Outcome.TECHNICAL, why=TOO_LATE)) for one in taken]


def _is_at(out: Out, taken: Taken) -> bool:
    return out.number == taken.number and out.state == SENDING


async def _with_early_receipts(
    connection: Connection, present: Sequence[tuple[Out, Answer]]
) -> list[tuple[Out, Answer]]:
    """Let receipts speak for messages that were accepted and of which these came first."""
    sent = [
        (out.gateway or "", answer.provider_message_id)
        for out, answer in present
        if answer.provider_message_id is not None
    ]
    early = {
        (receipt.gateway, receipt.provider_message_id): receipt
        for receipt in await store.take_early_receipts(connection, sent)
    }
    return [
        (out, _said(answer, early.get((out.gateway or "", answer.provider_message_id or ""))))
        for out, answer in present
    ]


def _said(answer: Answer, receipt: Early | None) -> Answer:
    if receipt is None:
        return answer
    return answer._replace(outcome=Outcome(receipt.outcome), code=receipt.code)
