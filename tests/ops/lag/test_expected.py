"""The groups of our own are those of the services, and read what these subscribe to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.setup import PROJECTIONS, SERVICES
from ops.lag.expected import READ_BY, expected_groups
from services.closure import app as closure
from services.insight import topics as insight
from services.maintenance import app as maintenance
from services.notify import app as notify
from services.transfer import app as transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.runtime.service import Service

BUILD: dict[str, Callable[[], Service]] = {
    "transfer": transfer.build_from_environment,
    "maintenance": maintenance.build_from_environment,
    "closure": closure.build_from_environment,
    "notify": notify.build_from_environment,
}


def test_every_service_is_expected() -> None:
    assert set(SERVICES) == set(BUILD)
    assert set(READ_BY) == {*SERVICES, *PROJECTIONS}
    assert set(READ_BY["insight"]) == set(insight.READ)
    assert expected_groups("a.")["a.sluice.transfer"] >= {"a.transfer.commands"}


@pytest.mark.parametrize("name", BUILD)
def test_topics_are_those_that_the_service_subscribes_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    for setting in ("SLUICE_MASTER_KEY", "SLUICE_NAME_KEY"):
        monkeypatch.setenv(setting, key)
    subscribed = {topic for each in BUILD[name]().subscriptions for topic in each.topics}
    assert set(READ_BY[name]) == subscribed
