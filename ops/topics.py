"""`sluice topics grow` and `sluice topics settle`: change what the brokers keep, without their scripts."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from local.settings import runtime_settings
from local.topics import config_of
from ops.acts import Who, Why, Yes, given_reason, note_act, operator
from ops.brokers import Otherwise, Unsaid, count_members, settings_otherwise
from ops.counts import count_text
from ops.errors import UserError
from ops.lag.expected import expected_groups
from ops.running import find_running
from ops.terminal import terminal
from schemas.topics import TOPICS
from services.insight.settings import load_insight
from services.insight.topics import own_topics
from services.runtime.kafka import admin_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.running import Running

_WITHIN_S: Final = 20
_ANSWER_WITHIN_S: Final = 25
_LOOK_EVERY_S: Final = 0.2


class NotChanged(UserError):
    """The brokers do not answer or refuse; the text says what."""


class NotDrained(UserError):
    """A service still has workers, or the topics have more partitions already; the text says which."""

    exit_code = 1


def grow(
    partitions: Annotated[int, typer.Option(help="How many every topic shall have.", min=2, max=1_000)],
    why: Why,
    who: Who = None,
    *,
    yes: Yes = False,
) -> None:
    """Let every topic have more partitions, dead letters and insight's own, too, once nothing is under way."""
    running, out = find_running(), terminal()
    admin = _admin(running)
    counts = _counts(admin, running)
    if more := {name: count for name, count in counts.items() if count > partitions}:
        said = ", ".join(f"{name} {count}" for name, count in sorted(more.items()))
        raise NotDrained(f"Partitions can only be added, and these topics have more: {said}.")
    fewer = sorted(name for name, count in counts.items() if count < partitions)
    _require_no_workers(admin, running)
    out.print(f"{count_text(len(fewer), 'topic')} of {len(counts)} to grow to {partitions} partitions.")
    if not fewer or not yes:
        out.print("Nothing was done: --yes does it." if fewer else "Nothing was done.")
        return
    asyncio.run(
        note_act(
            running,
            who=operator(who),
            what="topics grow",
            about=f"{partitions} partitions",
            why=given_reason(why),
            detail={"topics": fewer},
        )
    )
    more_of_each = [NewPartitions(name, partitions) for name in fewer]
    for name, future in admin.create_partitions(more_of_each, request_timeout=_WITHIN_S).items():
        _result(future, f"{name} was not changed")
    deadline = time.monotonic() + _WITHIN_S
    while set(_counts(admin, running).values()) != {partitions}:
        if time.monotonic() > deadline:
            raise NotChanged("The brokers do not show the new partitions yet: `sluice doctor` says when they do.")
        time.sleep(_LOOK_EVERY_S)
    out.print(f"Every topic has {partitions} partitions. From now on set SLUICE_PARTITIONS={partitions}.")


def settle(
    why: Why,
    who: Who = None,
    *,
    yes: Yes = False,
) -> None:
    """Have every topic kept as the contract says, where the brokers were told otherwise."""
    running, out = find_running(), terminal()
    admin = _admin(running)
    found = _otherwise(admin, running)
    for each in found:
        out.print(f"{each.topic}: {each.name} is {each.found}, and shall be {each.wanted}")
    if not found or not yes:
        out.print("Nothing was done: --yes does it." if found else "Every topic is kept as the contract says.")
        return
    detail = {"changed": [each._asdict() for each in found]}
    about = count_text(len(found), "setting")
    asyncio.run(
        note_act(running, who=operator(who), what="topics settle", about=about, why=given_reason(why), detail=detail)
    )
    entries: dict[str, list[ConfigEntry]] = {}
    for each in found:
        entry = ConfigEntry(each.name, each.wanted, incremental_operation=AlterConfigOpType.SET)
        entries.setdefault(each.topic, []).append(entry)
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=of) for name, of in entries.items()]
    for resource, future in admin.incremental_alter_configs(resources, request_timeout=_WITHIN_S).items():
        _result(future, f"{resource.name} was not changed")
    out.print("Every topic is kept as the contract says.")


def _admin(running: Running) -> AdminClient:
    return AdminClient({**admin_options(runtime_settings(running.kafka, running.database), "sluice"), "log_level": 0})


def _wanted(running: Running) -> Mapping[str, Mapping[str, str]]:
    """Return what the brokers are told about each topic of the contract, and of insight's own, by name on the wire."""
    own = {name: config for name, (_, config) in own_topics(load_insight()).items()}
    every = {topic.name: config_of(topic) for topic in TOPICS} | own
    return {running.topic_prefix + name: config for name, config in every.items()}


def _counts(admin: AdminClient, running: Running) -> dict[str, int]:
    """Return how many partitions each of our topics has that is there."""
    try:
        there = admin.list_topics(timeout=_WITHIN_S).topics
    except KafkaException as error:
        raise NotChanged(f"Kafka at {running.kafka} does not answer ({error.args[0].name()}).") from error
    return {name: len(there[name].partitions) for name in _wanted(running) if name in there}


def _require_no_workers(admin: AdminClient, running: Running) -> None:
    for name, count in count_members(admin, list(expected_groups(running.topic_prefix)), _WITHIN_S):
        if isinstance(count, KafkaError):
            raise NotChanged(f"Who is in the group {name} is not known: {count.str()}.")
        if count:
            raise NotDrained(
                f"{name} has {count_text(count, 'member')}: stop its workers first, or keys move while they are read "
                "(docs/operations.md, Changing partition counts)."
            )


def _otherwise(admin: AdminClient, running: Running) -> list[Otherwise]:
    wanted, there = _wanted(running), sorted(_counts(admin, running))
    found = []
    for each in settings_otherwise(admin, {name: wanted[name] for name in there}, _WITHIN_S):
        if isinstance(each, Unsaid):
            raise NotChanged(f"{each.topic} does not say how it is kept: {each.error.str()}.")
        found.append(each)
    return found


def _result(future: Any, otherwise: str) -> Any:
    try:
        return future.result(_ANSWER_WITHIN_S)
    except KafkaException as error:
        raise NotChanged(f"{otherwise}: {error.args[0].str()}.") from error
