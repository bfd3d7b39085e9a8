"""What one worker of insight takes for its own, where its tables have what others read, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.settings import runtime_settings
from services.insight import metrics, topics
from services.insight.engine import make_app
from services.insight.model import Flag, Suspicion
from services.insight.policy import Policy
from services.insight.streams import Streams
from services.insight.topics import Shape
from services.runtime.clock import clock_from_setting
from services.runtime.publisher import murmur2

if TYPE_CHECKING:
    import pytest


async def test_flags_of_others_partitions_are_theirs_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = dict.fromkeys(("transfer.events", "notify.events"), Shape(3, 1))
    app = make_app(runtime_settings("127.0.0.1:1", "postgresql://unused"))
    nobody: Any = None
    streams = Streams(app, Policy(), clock_from_setting("real"), "", shapes, nobody)
    since = datetime.now(UTC)
    until = since + timedelta(hours=1)
    customers = [f"customer-{number}" for number in range(30)]
    table: Any = streams._suspicions
    for customer in customers:
        table.data[customer, "many"] = Suspicion((), Flag(customer, customer, "many", since, until), until).as_json()
    counted = []
    for ours in ({0}, {1, 2}):
        monkeypatch.setattr(streams, "partitions_of", {topics.NOTES: ours}.__getitem__)
        await streams.look_again()
        await streams.look_at_clock()
        counted.append(metrics.FLAGS._value.get())
    in_first = [customer for customer in customers if murmur2(customer.encode()) % 3 == 0]
    assert counted == [len(in_first), len(customers) - len(in_first)]
