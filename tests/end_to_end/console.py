"""A running system with something on every page of its console, and those who sign in there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.web.users import Role, UserFile
from tests.end_to_end.closings import Cases, People, payout, write_policy
from tests.end_to_end.system import Reader, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.system import System

PASSWORD = "correct horse battery"
USERS = {"wen": Role.VIEWER, "li": Role.OPERATOR, "wang": Role.REVIEWER, "zhao": Role.REVIEWER}

_POLICY = """
[erasing]
services = ["transfer"]

[[erasing.retained]]
what = "closing"
why = "contract_law"
days = 1_096

[review]
person_from_minor = { CNY = 1_000 }
four_eyes_from_minor = { CNY = 5_000 }
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see: a transfer to a bank, a case in review, and a pause that came before its broadcast."""

    system: System
    url: str
    transfer_id: str
    case_id: str
    broadcast_id: str


def running_console(home: Path) -> Iterator[Scene]:
    """Run a system with its console until the generator is closed."""
    users = UserFile(home / "console_users.json")
    environment = write_policy(home, _POLICY)
    for name, role in USERS.items():
        users.put(name, role, PASSWORD)
    with running_system(
        home, notifiers=1, maintainers=1, closers=1, console=True, environment=environment | {"SLUICE_PARTITIONS": "3"}
    ) as system:
        yield _furnished(system)


def _furnished(system: System) -> Scene:
    people, cases, transfers = People(system), Cases(system.kafka), Reader(system.kafka)
    leaver, payer = people.join(1, 8_000), people.join(2, 500_000)
    system.flush()
    transfers.read_until(lambda: len([each for each in transfers.latest.values() if each["status"] == "settled"]) == 2)
    transfer_id = system.request("withdrawal", payer, "bank:ICBC:6222020000001234", 12_345, payee_name="Person 2")
    system.flush()
    transfers.read_until(lambda: transfers.status(transfer_id) == "settled")
    transfers.close()
    case_id = people.apply(1, leaver, payout=payout(1))
    cases.wait(case_id, "in_review")
    broadcast_id = str(uuid.uuid4())
    # Of a broadcast that nobody has asked for yet: a dead letter, until somebody does.
    system.send("broadcast.pause", "all", {"notification_id": broadcast_id}, topic="notify.commands")
    system.flush()
    letters = Reader(system.kafka, "notify.commands.dlq")
    letters.read_until(lambda: len(letters.records) == 1)
    letters.close()
    return Scene(system, system.endpoints()["console"], transfer_id, case_id, broadcast_id)
