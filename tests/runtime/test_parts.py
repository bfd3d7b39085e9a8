"""The runtime's small parts, each by its own promise."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from aiokafka import ConsumerRecord
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import personal_data
from services.runtime.brake import Brake, Braked, BrakePolicy
from services.runtime.clock import ClockError, clock_from_setting
from services.runtime.database import MigrationError, QueryError, load_queries, migrate
from services.runtime.dead_letters import Rejected, dead_letter, message_bytes
from services.runtime.intake import Taken, take
from services.runtime.liveness import Progress
from services.runtime.message import Batch, Effects, Lane, Outgoing
from services.runtime.outbox import pack, unpack
from services.runtime.publisher import murmur2
from services.runtime.service import Subscription
from services.runtime.topics import Place
from services.runtime.work import LetterPolicy, RecordWork

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.world import World

LANE = Lane("g", 3)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


@given(st.binary(max_size=80))
def test_keys_go_where_the_java_client_sends_them(key: bytes) -> None:
    partitions = list(range(12))
    assert murmur2(key) % 12 == DefaultPartitioner()(key, partitions, partitions)


OUTGOING = st.builds(
    Outgoing,
    st.just(LANE),
    st.text(max_size=20),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=200),
    st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=10)), max_size=4),
)


@given(st.lists(OUTGOING, max_size=20))
def test_the_outbox_gives_back_what_it_was_given(outgoing: list[Outgoing]) -> None:
    assert unpack(LANE, pack(outgoing)) == outgoing


class TestWork:
    PLACE = Place("t", 0)

    def taken(self, first: int, count: int, value_bytes: int, group: str = "g") -> Taken:
        value = b"x" * value_bytes
        records = [
            ConsumerRecord("t", 0, first + number, 0, 0, b"k", value, None, 1, value_bytes, ())
            for number in range(count)
        ]
        return take(Subscription(group, {"t": {}}, self.handle), self.PLACE, records)

    @staticmethod
    async def handle(_connection: object, _batch: Batch, _now: datetime) -> Effects:
        return Effects()

    def light_parts(self, work: RecordWork) -> list[RecordWork]:
        if not work.is_heavy:
            return [work]
        return [light for half in work.halves() for light in self.light_parts(half)]

    def test_what_weighs_too_much_for_one_transaction_becomes_several_in_order(self) -> None:
        work = RecordWork([self.taken(0, 6, 250_000), self.taken(6, 5, 250_000)], LetterPolicy("s", 1_000_000))
        assert work.starts == {self.PLACE: 0}
        assert work.next_offsets == {self.PLACE: 11}
        parts = self.light_parts(work)
        assert len(parts) > 3
        ends = [part.next_offsets[self.PLACE] for part in parts]
        assert [part.starts[self.PLACE] for part in parts] == [0, *ends[:-1]]
        assert ends[-1] == 11

    def test_each_subscription_has_a_transaction_of_its_own(self) -> None:
        parts = [self.taken(first, 2, 10, group) for group, first in (("a", 0), ("a", 2), ("b", 4), ("c", 6))]
        light = self.light_parts(RecordWork(parts, LetterPolicy("s", 1_000_000)))
        assert [work.parts for work in light] == [parts[:2], parts[2:3], parts[3:]]

    @pytest.mark.parametrize(("count", "value_bytes"), [(1, 5_000_000), (2_334, 300)])
    def test_one_record_and_a_batch_of_ordinary_ones_are_one_transaction(self, count: int, value_bytes: int) -> None:
        assert not RecordWork([self.taken(0, count, value_bytes)], LetterPolicy("s", 1_000_000)).is_heavy


class TestBrake:
    def test_failures_in_a_row_trip_it(self) -> None:
        brake = Brake(BrakePolicy(in_a_row=3))
        brake.failed()
        brake.failed()
        brake.succeeded(1)
        brake.failed()
        brake.failed()
        with pytest.raises(Braked, match="3 messages in a row"):
            brake.failed()

    def test_a_share_of_a_large_sample_trips_it(self) -> None:
        brake = Brake(BrakePolicy(in_a_row=20, share=0.05, of_at_least=1_000))
        for _ in range(49):
            brake.succeeded(19)
            brake.failed()
        brake.succeeded(19)
        with pytest.raises(Braked, match="5%"):
            brake.failed()

    def test_a_small_share_does_not_and_old_successes_fade(self) -> None:
        brake = Brake(BrakePolicy(in_a_row=20, share=0.05, of_at_least=1_000))
        for _ in range(500):
            brake.succeeded(30)
            brake.failed()
        brake.succeeded(1_000_000)
        with pytest.raises(Braked):
            self.fail_one_in_six(brake)

    def fail_one_in_six(self, brake: Brake) -> None:
        for _ in range(200):
            brake.succeeded(5)
            brake.failed()


class TestProgress:
    PLACE = Place("t", 0)

    def test_standing_still_with_work_to_do_is_noticed_in_time(self) -> None:
        progress = Progress(10)
        assert progress.observe(0, {self.PLACE: 5}, {self.PLACE: 9}) == []
        assert progress.observe(9, {self.PLACE: 5}, {self.PLACE: 9}) == []
        assert progress.observe(10, {self.PLACE: 5}, {self.PLACE: 10}) == [self.PLACE]

    def test_moving_idling_and_excuses_start_anew(self) -> None:
        progress = Progress(10)
        progress.observe(0, {self.PLACE: 5}, {self.PLACE: 9})
        assert progress.observe(11, {self.PLACE: 6}, {self.PLACE: 9}) == []
        assert progress.observe(22, {self.PLACE: 9}, {self.PLACE: 9}) == []
        assert progress.observe(33, {self.PLACE: 9}, {self.PLACE: 10}) == []
        progress.excuse()
        assert progress.observe(44, {self.PLACE: 9}, {self.PLACE: 10}) == []


class TestDeadLetter:
    def rejected(self, **changes: Any) -> Rejected:
        whole = Rejected("t", 3, 77, b"k", b"v", (("ce_id", b"1"),), "malformed", "amount: missing")
        return whole._replace(**changes)

    def test_it_keeps_the_record_and_says_why(self) -> None:
        letter = dead_letter(self.rejected(), LANE, "toy", NOW, 1_000)
        assert letter[:4] == (LANE, "t.dlq", b"k", b"v")
        assert letter.headers == [
            ("ce_id", b"1"),
            ("dlq-reason", b"malformed"),
            ("dlq-detail", b"amount: missing"),
            ("dlq-service", b"toy"),
            ("dlq-topic", b"t"),
            ("dlq-partition", b"3"),
            ("dlq-offset", b"77"),
            ("dlq-time", b"2026-01-02T03:04:05.678Z"),
        ]

    @given(st.binary(max_size=9_000), st.binary(max_size=9_000), st.binary(max_size=9_000))
    def test_it_always_fits(self, key: bytes, value: bytes, header: bytes) -> None:
        rejected = self.rejected(key=key, value=value, headers=(("h", header),), detail="é" * 5_000)
        letter = dead_letter(rejected, LANE, "toy", NOW, 5_000)
        assert message_bytes(letter) <= 5_000
        assert ("dlq-offset", b"77") in letter.headers


class TestPersonalData:
    def test_what_is_encrypted_comes_back_only_with_its_key_and_use(self) -> None:
        key = personal_data.new_key()
        sealed = personal_data.encrypt(key, b"13812345678", b"c1/phone")
        assert b"138" not in sealed
        assert personal_data.decrypt(key, sealed, b"c1/phone") == b"13812345678"
        for other, use in ((key, b"c2/phone"), (personal_data.new_key(), b"c1/phone")):
            with pytest.raises(personal_data.PersonalDataError):
                personal_data.decrypt(other, sealed, use)

    def test_a_wrapped_key_belongs_to_one_customer(self) -> None:
        master = personal_data.parse_master_key(base64.b64encode(os.urandom(32)).decode())
        key = personal_data.new_key()
        wrapped = personal_data.wrap_key(master, key, "c1")
        assert personal_data.unwrap_key(master, wrapped, "c1") == key
        with pytest.raises(personal_data.PersonalDataError):
            personal_data.unwrap_key(master, wrapped, "c2")

    @pytest.mark.parametrize("text", ["", "?", base64.b64encode(b"short").decode()])
    def test_a_master_key_has_32_bytes(self, text: str) -> None:
        with pytest.raises(personal_data.PersonalDataError):
            personal_data.parse_master_key(text)


class TestClock:
    def test_a_file_moves_it_and_nonsense_does_not(self, tmp_path: Path) -> None:
        file = tmp_path / "clock"
        clock = clock_from_setting(f"file:{file}")
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
        for text in ("3600", "36oo", "3600\n"):
            file.write_text(text)
            assert abs(clock.now() - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=5)

    @pytest.mark.parametrize("text", ["", "sundial", "file:", "url:x"])
    def test_there_are_two_kinds(self, text: str) -> None:
        with pytest.raises(ClockError):
            clock_from_setting(text)


class TestQueries:
    def test_statements_are_found_by_name(self, tmp_path: Path) -> None:
        file = tmp_path / "queries.sql"
        file.write_text("-- All.\n\n-- name: one\n-- Says one.\nselect 1;\n\n-- name: two\nselect 2\n")
        queries = load_queries(file)
        assert list(queries) == ["one", "two"]
        assert queries.one.endswith("select 1")
        assert queries["two"] == "select 2"
        with pytest.raises(QueryError, match="three"):
            queries["three"]
        with pytest.raises(AttributeError, match="three"):
            _ = queries.three

    @pytest.mark.parametrize(
        "text",
        [
            "select 1\n",
            "-- name: a\nselect 1\n-- name: a\nselect 2\n",
            "-- name: a\n-- no\n",
            "-- name: A b\nselect 1\n",
        ],
    )
    def test_a_file_that_is_not_well_formed_is_refused(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "queries.sql"
        file.write_text(text)
        with pytest.raises(QueryError):
            load_queries(file)


class TestMigrations:
    def write(self, folder: Path, name: str, text: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return folder

    async def test_they_are_applied_once_in_order_and_never_changed(self, world: World, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "svc" / "migrations", "0001_a.sql", "create table a (x int)")
        self.write(folder, "0003_c.sql", "insert into a values (3)")
        assert await migrate(world.dsn, "other", [folder]) == ["svc/0001_a.sql", "svc/0003_c.sql"]
        assert await migrate(world.dsn, "other", [folder]) == []
        assert await world.value("select x from other.a") == 3
        self.write(folder, "0002_b.sql", "select 1")
        with pytest.raises(MigrationError, match="below"):
            await migrate(world.dsn, "other", [folder])
        (folder / "0002_b.sql").unlink()
        self.write(folder, "0003_c.sql", "insert into a values (4)")
        with pytest.raises(MigrationError, match="changed"):
            await migrate(world.dsn, "other", [folder])
        (folder / "0003_c.sql").unlink()
        with pytest.raises(MigrationError, match="missing"):
            await migrate(world.dsn, "other", [folder])

    async def test_one_that_fails_leaves_nothing(self, world: World, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "svc" / "migrations", "0001_a.sql", "create table a (x int); select 1/0")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(world.dsn, "other", [folder])
        assert await world.value("select to_regclass('other.a')") is None
