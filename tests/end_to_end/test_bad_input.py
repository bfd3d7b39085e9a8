"""Garbage on the wire: a dead letter or a refusal each, and nothing else is lost or delayed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

from tests.end_to_end.system import Reader, System, running_system

if TYPE_CHECKING:
    from pathlib import Path


def _order(**fields: Any) -> dict[str, Any]:
    order = {"kind": "p2p", "payer": "wallet:0", "payee": "wallet:1", "amount_minor": 1, "currency": "CNY"}
    return {"transfer_id": str(uuid.uuid4()), **order, **fields}


def _json(**fields: Any) -> bytes:
    return orjson.dumps(_order(**fields))


MALFORMED: list[tuple[str, bytes]] = [
    ("transfer.request", b""),
    ("transfer.request", b"not json"),
    ("transfer.request", b"[]"),
    ("transfer.request", b"{}"),
    ("transfer.request", b"\xff\xfe\x00"),
    ("transfer.request", b'{"a":' * 5_000),
    ("transfer.request", _json(amount_minor=1.5)),
    ("transfer.request", _json(amount_minor=1.0)),
    ("transfer.request", _json(amount_minor="1")),
    ("transfer.request", _json(amount_minor=True)),
    ("transfer.request", _json().replace(b'"amount_minor":1', b'"amount_minor":' + b"9" * 200_000)),
    ("transfer.request", _json().replace(b'"amount_minor":1', b'"amount_minor":9223372036854775808')),
    ("transfer.request", _json(execute_at="2030-01-01T00:00:00")),
    ("transfer.request", _json(payer="wallet:")),
    ("transfer.request", _json(payer="nobody")),
    ("transfer.request", _json(currency="yuan")),
    ("transfer.request", _json(reference="\x00")),
    ("transfer.request", _json(reference="x" * 300_000)),
    ("transfer.request", _json(transfer_id="1")),
    ("transfer.batch", orjson.dumps({"batch_id": str(uuid.uuid4()), "atomic": True, "items": [{}]})),
    ("transfer.nonsense", _json()),
    ("account.open", b'{"account_id": "wallet:9"}'),
]

REFUSED = [
    ("amount_invalid", {"amount_minor": -5}),
    ("amount_invalid", {"amount_minor": 0}),
    ("same_account", {"payee": "wallet:0"}),
    ("currency_mismatch", {"currency": "XXX"}),
]


def test_each_bad_record_is_answered_and_its_neighbours_are_done(tmp_path: Path) -> None:
    with running_system(tmp_path / "home") as system:
        system.open_wallets(2, overdraft_minor=1_000_000)
        system.flush()
        events, letters = Reader(system.kafka), Reader(system.kafka, "transfer.commands.dlq")
        # They are opened in two lanes: a payee may be unknown for as long as its own has not been read.
        events.read_until(lambda: len(events.records) == 2)
        good = []
        for type_, value in MALFORMED:
            system.send(type_, "wallet:0", value)
            good.append(system.request("p2p", "wallet:0", "wallet:1", 1))
        refused = [
            system.request("p2p", **{"payer": "wallet:0", "payee": "wallet:1", "amount_minor": 1, **fields})
            for _, fields in REFUSED
        ]
        system.flush()
        events.read_until(lambda: all(events.status(id_) == "settled" for id_ in good))
        # Without the wallet's key a command is done as well, in whatever order.
        mis_keyed = [_order(), _order()]
        for key, order in zip((None, "someone else"), mis_keyed, strict=True):
            system.send("transfer.request", key, order)
        system.flush()
        events.read_until(lambda: all(events.status(order["transfer_id"]) == "settled" for order in mis_keyed))
        events.read_until(lambda: all(events.status(id_) == "failed" for id_ in refused))
        letters.read_until(lambda: len(letters.records) >= len(MALFORMED))
        _check(system, events, letters, refused)
        events.close()
        letters.close()


def _check(system: System, events: Reader, letters: Reader, refused: list[str]) -> None:
    codes = [events.latest[id_]["reason"]["code"] for id_ in refused]
    assert codes == [code for code, _ in REFUSED]
    assert len(letters.records) == len(MALFORMED)
    for headers, _ in letters.records:
        assert headers["dlq-reason"] in {"malformed", "unknown_type"}
        assert len(headers["dlq-detail"]) > 10
        assert headers["dlq-topic"] == "transfer.commands"
    assert {service["pid"] for service in system.endpoints()["services"]}
