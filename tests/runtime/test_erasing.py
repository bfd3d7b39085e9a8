"""The answer of a service that has forgotten a customer."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.envelope import Envelope, decode
from schemas.erasure import CustomerErased
from schemas.registry import TOPICS
from services.runtime.erasing import EVENTS, erased, retain
from services.runtime.message import Cause, Lane, Outgoing

NOW = datetime(2026, 11, 27, 16, 30, tzinfo=UTC)
LANE = Lane("erasure", 2)


def read(answer: Outgoing) -> Envelope:
    found = decode(answer.headers, answer.value, TOPICS[EVENTS])
    assert isinstance(found, Envelope)
    return found


def test_the_answer_is_what_the_contract_says() -> None:
    kept = [retain("transfers", "accounting", NOW)]
    answer = erased(LANE, "erase-1", "顾客-1", "transfer", kept, NOW, Cause("asked"))
    found = read(answer)
    # Half past midnight of the next day in Shanghai.
    said = CustomerErased.model_validate(
        {
            "customer_id": "顾客-1",
            "service": "transfer",
            "retained": ({"what": "transfers", "why": "accounting", "until": "2026-11-28"},),
        }
    )
    assert (found.type, found.source, found.data) == ("customer.erased", "sluice/transfer", said)
    assert found.correlation_id == "asked"
    assert (answer.lane, answer.topic, answer.key) == (LANE, "erasure.events", "顾客-1".encode())


def test_the_same_command_has_the_same_answer_and_every_other_another_id() -> None:
    ids = {
        read(erased(LANE, asked, customer, service, [], NOW, Cause("asked"))).id
        for asked, customer, service in [
            ("1", "a", "notify"),
            ("1", "a", "notify"),
            ("2", "a", "notify"),
            ("1", "b", "notify"),
            ("1", "a", "transfer"),
        ]
    }
    assert len(ids) == 4
    assert erased(LANE, "1", "a", "notify", [], NOW, Cause("asked")) == erased(
        LANE, "1", "a", "notify", [], NOW, Cause("asked")
    )


def test_an_id_as_long_as_any_may_be_has_an_answer_that_can_be_read() -> None:
    assert read(erased(LANE, "x" * 256, "a", "maintenance", [], NOW, Cause("asked"))).type == "customer.erased"
