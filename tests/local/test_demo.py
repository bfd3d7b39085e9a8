"""What the demo sends is what others would: under the key that its topic has, at the time of the services' clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from local import demo
from local.demo_messages import READERS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_AHEAD = timedelta(days=-60)


def test_a_closing_is_asked_for_under_its_wallet_by_the_clock_of_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str, dict[str, bytes]]] = []

    def produce(topic: str, *, key: str, value: bytes, headers: Any) -> None:
        assert value
        sent.append((topic, key, dict(headers)))

    producer = SimpleNamespace(produce=produce, poll=lambda _: 0)
    nothing: Any = SimpleNamespace(partitions={})
    topics = SimpleNamespace(topics=dict.fromkeys(("transfer.events", "maintenance.events", "closure.events"), nothing))
    consumer = SimpleNamespace(list_topics=lambda *_: topics, assign=lambda _: None)
    topics.topics["risk.events"] = nothing
    monkeypatch.setattr(demo, "Producer", lambda _: producer)
    monkeypatch.setattr(demo, "Consumer", lambda _: consumer)
    clock = tmp_path / "clock"
    clock.write_text(str(_AHEAD.total_seconds()))
    story = demo.Story({"kafka": ""}, clock, Console(quiet=True))
    case_id = story._apply("wallet:potter", READERS[-1])
    story._about_case("closure.confirm", case_id)
    assert [(topic, key) for topic, key, _ in sent] == [("closure.commands", "wallet:potter")] * 2
    for _, _, headers in sent:
        late = datetime.now(UTC) + _AHEAD - datetime.fromisoformat(headers["ce_time"].decode())
        assert timedelta() <= late < timedelta(minutes=1)
