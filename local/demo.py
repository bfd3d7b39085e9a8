"""`sluice demo`: two weeks in which everything happens once, told as it happens."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.markup import escape
from rich.table import Table

from local.demo_closings import Forgotten, look_at_closings
from local.demo_messages import LEAVING, READERS, show_messages
from local.demo_words import CURRENCY, sentence_of
from local.temporary import temporary_folder
from local.up import started
from ops.dlq.looking import first_letters
from ops.dlq.marks import State
from ops.dlq.selection import Selection
from ops.errors import UserError
from ops.ledger import audit_everything
from ops.running import running_from
from ops.stopping import ToldToStop, ending_in_order
from ops.terminal import terminal
from schemas.envelope import encode_headers
from services.runtime.calendar import BUSINESS_ZONE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from local.demo_messages import Reader
    from ops.dlq.letters import Letter

_SEED: Final = 20260928
_MORNING: Final = datetime(2026, 9, 28, 9, 0, tzinfo=BUSINESS_ZONE)
"""A Monday before the National Day holidays: three business days take until 9 October."""

_PATIENCE_S: Final = 20.0
_OWN: Final = dict.fromkeys(("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "SLUICE_TOPIC_PREFIX", "SLUICE_CLOCK"), "")
"""What the environment says of a real system is not for the demo, which invents money and moves the clocks."""

_POLICY: Final = Path(__file__).with_name("demo_policy.toml")

STATUSES: Final = frozenset(
    {"scheduled", "verification_required", "held", "sent", "delayed", "settled", "refunding", "refunded", "failed"}
    | {"cancelled", "expired"}
)
"""Every status."""

REASONS: Final = frozenset(
    {
        "insufficient_balance",
        "payer_unknown",
        "payee_unknown",
        "same_account",
        "payee_name_mismatch",
        "payee_name_unverified",
        "account_closing",
        "account_closed",
        "account_restricted",
        "limit_single",
        "limit_daily_amount",
        "limit_daily_count",
        "limit_monthly_amount",
        "amount_invalid",
        "currency_mismatch",
        "maintenance",
        "verification_failed",
        "verification_expired",
        "expired",
        "rail_timeout",
        "rail_rejected",
        "rail_returned",
        "duplicate_id_conflict",
        "transfer_unknown",
        "state_conflict",
        "refund_exceeds",
        "batch_rejected",
        "account_exists",
        "account_unknown",
        "tier_unknown",
        "risk_restricted",
    }
)
"""Every reason that the transfer service can give."""

_BANK: Final = {
    "rules": [
        {"payee": "bank:DEMO:WRONG", "answers": [{"answer": "failed", "rail_code": "AC01"}]},
        {"payee": "bank:DEMO:REJECT", "answers": [{"answer": "failed", "rail_code": "MS03", "detail": "try later"}]},
        {"payee": "bank:DEMO:RETURN", "answers": [{"answer": "settled"}, {"answer": "returned", "after_s": 600}]},
        {"payee": "bank:DEMO:SILENT", "answers": [], "inquiry": "silent"},
        {"payee": "bank:DEMO:LOST", "answers": [], "inquiry": "unknown"},
        {
            "payee": "bank:DEMO:LATE",
            "answers": [{"answer": "failed"}, {"answer": "settled", "after_s": 600}],
        },
    ]
}


class DemoError(UserError):
    """The demo did not go as it should; the text says what was awaited."""

    exit_code = 1


@dataclass(slots=True)
class Seen:
    """What the events said."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    events: list[dict[str, Any]] = field(default_factory=list)


def run(*, keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False) -> None:
    """Live through the two weeks; exit 1 when they missed an outcome or the ledger does not add up."""
    with ending_in_order("Stopped; nothing of the demo stays."):
        is_well = _live(terminal(), keep=keep)
    if not is_well:
        raise SystemExit(1)


def _live(console: Console, *, keep: bool) -> bool:
    console.print("Starting Kafka, PostgreSQL, the services and the sandboxes of bank, mail and SMS …")
    began = time.monotonic()
    with temporary_folder() as home:
        clock = home / "clock"
        clock.write_text(str((_MORNING - datetime.now(UTC)).total_seconds()))
        (home / "bank.json").write_text(json.dumps(_BANK))
        own = _OWN | {"SLUICE_POLICY": str(_POLICY)}
        more = {"console": keep, "monitor": keep}
        with started(home, insights=1, movable_clock=True, environment=own, **more) as endpoints:
            console.print(f"Up after {time.monotonic() - began:.0f} s. The clocks say Monday morning.\n")
            story = Story(endpoints, clock, console)
            story.live()
            is_well = story.report()
            if keep:
                _keep(console, home, endpoints["console"])
    return is_well


def _keep(console: Console, home: Path, page: str) -> None:
    console.print("\nEverything stays up until Ctrl-C. In another terminal:")
    console.print(f"  export SLUICE_HOME={home}", soft_wrap=True)
    for words in ("statement wallet:tea-shop", "dlq ls", "cases --review"):
        console.print(f"  .venv/bin/sluice {words}")
    console.print(f"In a browser: {page}, as operator with the password in {home}/console_password", soft_wrap=True)
    with suppress(ToldToStop):
        signal.pause()


class Story:
    """What happens in the two weeks: each scene sends commands, waits for what they come to, and tells it."""

    def __init__(self, endpoints: dict[str, Any], clock: Path, console: Console) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._console = console
        self._dice = random.Random(_SEED)  # noqa: S311 - the same story every time
        self._seen = Seen()
        self._twice = 0
        self._closed: dict[str, str] = {}
        """The cases, each with the wallet or loan that is the key of what is asked about it."""
        self._leaving: list[str] = []
        """Cases whose customers everybody has still to forget."""
        self._producer = Producer(
            {
                "bootstrap.servers": endpoints["kafka"],
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "log_level": 0,
            }
        )
        self._consumer = Consumer(
            {"bootstrap.servers": endpoints["kafka"], "group.id": "demo", "enable.auto.commit": False, "log_level": 0}
        )
        self._consumer.assign(
            [
                TopicPartition(topic, number, 0)
                for topic in ("transfer.events", "maintenance.events", "closure.events", "risk.events")
                for number in self._consumer.list_topics(topic, 10).topics[topic].partitions
            ]
        )

    def live(self) -> None:
        """Play every scene, in order."""
        for scene in (
            self._open_wallets,
            self._pay_in,
            self._pay,
            self._repeat,
            self._refuse,
            self._check_names,
            self._verify,
            self._restrict,
            self._suspect,
            self._wait,
            self._maintain,
            self._batch,
            self._reach_limits,
            self._give_back,
            self._pay_out,
            self._lose_patience,
            self._close_a_wallet,
            self._close_a_loan,
            self._mend_a_closing,
            self._clear,
            self._forget,
            self._look_at_a_closing,
            self._misread,
            self._be_busy,
            self._read_messages,
        ):
            scene()

    # --- Scenes ---

    def _open_wallets(self) -> None:
        self._title("Wallets are opened")
        for name, customer, tier in (
            ("tea-shop", "tea-shop-owner", "standard"),
            ("courier", "courier", "standard"),
            ("student", "student", "starter"),
            ("landlord", "landlord", "standard"),
        ):
            self._open(name, customer, tier)
        for reader in READERS[1:]:
            self._profile(reader.profile())
        self._account("tea-shop", "account.configure", {"low_balance_threshold_minor": 100_000})
        self._tell("wallet:tea-shop", what="account.configured")
        self._tell(self._account("student", "account.open", {"customer_id": "another", "currency": "CNY"}))
        self._tell(self._account("nobody", "account.configure", {"low_balance_threshold_minor": 1}))
        self._tell(self._account("courier", "account.configure", {"tier": "golden"}))

    def _pay_in(self) -> None:
        self._title("Money comes in from the bank")
        for name, minor in (("tea-shop", 6_000_000), ("courier", 5_000_000), ("student", 500_000)):
            self._tell(self._request("top_up", "bank:DEMO:0001", f"wallet:{name}", minor), "settled")
        lost = self._request("top_up", "bank:DEMO:0001", "wallet:nobody", 12_300)
        self._tell(lost, "failed")
        self._tell(lost, "refunded", "it waited in suspense and went back to the bank")
        self._tell(self._request("interest", "platform:interest", "wallet:courier", 120), "settled")
        self._tell(self._request("fee", "wallet:courier", "platform:fees", 500), "settled")

    def _pay(self) -> None:
        self._title("People pay each other")
        self._tell(self._p2p("courier", "tea-shop", 3_200), "settled")
        asked = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        order = {"kind": "withdrawal", "payer": "wallet:courier", "payee": "bank:DEMO:0002", "amount_minor": 50_000}
        self._send("transfer.quote", "wallet:courier", {"quote_id": asked, "currency": CURRENCY, **order})
        self._tell(asked)
        self._tell(self._request("withdrawal", "wallet:courier", "bank:DEMO:0002", 50_000), "settled")
        # Nearly everything goes out, and the shop hears of it before a payment fails.
        for _ in range(3):
            self._tell(self._p2p("tea-shop", "landlord", 1_970_000), "settled")
        self._tell("wallet:tea-shop", what="account.low_balance")
        self._tell(self._p2p("tea-shop", "landlord", 900_000), "failed")

    def _repeat(self) -> None:
        self._title("The same request comes twice, and once with another amount")
        id_ = self._p2p("courier", "tea-shop", 700)
        self._tell(id_, "settled")
        self._p2p("courier", "tea-shop", 700, id_=id_)
        self._tell(id_, "settled", "said again, moved once")
        self._p2p("courier", "tea-shop", 800, id_=id_)
        self._tell(id_, what="transfer.command_refused")

    def _refuse(self) -> None:
        self._title("What cannot be done is refused, with the reason")
        self._tell(self._p2p("courier", "courier", 100), "failed")
        self._tell(self._p2p("courier", "tea-shop", 0), "failed")
        self._tell(self._p2p("courier", "tea-shop", 100, currency="USD"), "failed")
        self._tell(self._p2p("nobody", "tea-shop", 100), "failed")
        self._tell(self._p2p("courier", "nobody", 100), "failed")
        for type_ in ("transfer.cancel", "transfer.verification_resend"):
            unknown = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
            self._send(type_, "wallet:courier", {"transfer_id": unknown})
            self._tell(unknown, what="transfer.command_refused")

    def _check_names(self) -> None:
        self._title("The payee's name is checked")
        self._tell(self._p2p("courier", "landlord", 1_000, payee_name="房东"), "settled")
        self._tell(self._p2p("courier", "landlord", 1_000, payee_name="房客"), "failed")
        self._tell(self._p2p("courier", "tea-shop", 1_000, payee_name="茶店"), "failed")
        # Only now is it known who she is: what she was to be told has waited for it.
        self._profile(READERS[0].profile())

    def _verify(self) -> None:
        self._title("Large amounts want proof of who asks")
        id_ = self._p2p("landlord", "courier", 2_100_000)
        self._tell(id_, "verification_required")
        self._verify_with(id_, "passed")
        self._tell(id_, "settled")
        id_ = self._p2p("landlord", "courier", 2_200_000)
        self._tell(id_, "verification_required")
        self._move_clock(timedelta(minutes=6))
        self._tell(id_, "failed")
        id_ = self._p2p("landlord", "courier", 2_300_000)
        self._tell(id_, "verification_required")
        for outcome in ("verification_required", "failed"):
            self._verify_with(id_, "failed")
            self._tell(id_, outcome)
        self._move_clock(timedelta(minutes=20))

    def _restrict(self) -> None:
        self._title("An account is restricted for a while")
        until = (self._now() + timedelta(hours=1)).isoformat()
        data = {"scope": "debit", "reason": "reported lost", "until": until}
        self._account("student", "account.restrict", data)
        self._tell("wallet:student", what="account.restricted")
        self._tell(self._p2p("student", "tea-shop", 500), "failed")
        self._move_clock(timedelta(hours=1, minutes=1))
        self._tell("wallet:student", what="account.released")

    def _suspect(self) -> None:
        self._title("Too much fails in a short time: the landlord can send nothing for half an hour")
        for _ in range(5):
            self._tell(self._p2p("landlord", "nobody", 100), "failed")
        self._tell("landlord", what="risk.flagged")
        order = {"kind": "p2p", "payer": "wallet:landlord", "payee": "wallet:tea-shop", "amount_minor": 100}
        self._await_quote(order, lambda said: said["would"] == "refuse")
        self._tell(self._p2p("landlord", "tea-shop", 100), "failed")
        self._tell(self._p2p("courier", "landlord", 600), "settled", "what others send still comes in")
        self._move_clock(timedelta(minutes=31))
        self._tell("landlord", what="risk.cleared")
        self._tell(self._p2p("landlord", "tea-shop", 100), "settled")

    def _wait(self) -> None:
        self._title("Some transfers wait for their time")
        later = self._now() + timedelta(hours=2)
        rent = self._p2p("courier", "landlord", 150_000, execute_at=later.isoformat())
        self._tell(rent, "scheduled")
        regretted = self._p2p("courier", "landlord", 99_000, execute_at=later.isoformat())
        self._tell(regretted, "scheduled")
        self._send("transfer.cancel", "wallet:courier", {"transfer_id": regretted})
        self._tell(regretted, "cancelled")
        self._send("transfer.cancel", "wallet:courier", {"transfer_id": regretted})
        self._tell(regretted, what="transfer.command_refused")
        short = {"execute_at": later.isoformat(), "expires_at": (later - timedelta(hours=1)).isoformat()}
        missed = self._p2p("courier", "landlord", 1_000, **short)
        self._tell(missed, "scheduled")
        self._move_clock(timedelta(hours=2, minutes=1))
        self._tell(missed, "expired")
        self._tell(rent, "settled")

    def _maintain(self) -> None:
        self._title("The ledger is upgraded, and payments wait")
        hour = timedelta(hours=1)
        starts_at = self._now() + 2 * hour
        window_id = self._plan(starts_at + hour, starts_at)
        self._tell(window_id, what="window.refused")
        window_id = self._plan(starts_at, starts_at + hour)
        self._tell(window_id, what="window.scheduled")
        self._move_clock(hour + timedelta(minutes=1))
        self._tell(window_id, what="window.reminder")
        self._move_clock(hour)
        self._tell(window_id, what="window.started")
        held = [self._p2p("courier", "landlord", minor) for minor in (21_000, 22_000)]
        for transfer_id in held:
            self._tell(transfer_id, "held")
        self._tell(
            self._p2p("courier", "tea-shop", 4_500, on_maintenance="reject"), "failed", "its payer chose not to wait"
        )
        why = {"reason": "The checks take longer.", "reason_in": _in_chinese("检查比预计耗时更长。")}
        self._change("window.extend", window_id, {"ends_at": (starts_at + 2 * hour).isoformat(), **why})
        self._tell(window_id, what="window.extended")
        self._move_clock(2 * hour)
        self._tell(window_id, what="window.ended")
        for transfer_id in held:
            self._tell(transfer_id, "settled")
        self._tell(window_id, what="compensation.granted")
        self._await_waiver()
        free = self._request("withdrawal", "wallet:courier", "bank:DEMO:0002", 40_000)
        self._tell(free, "settled", "without the fee, to make up for the wait")
        self._tell(window_id, what="compensation.used")
        self._move_clock(hour)
        self._tell(window_id, what="survey.requested")
        for customer, score in (("courier", 4), ("landlord", 5)):
            self._change("survey.answer", window_id, {"customer_id": customer, "score": score})

    def _await_waiver(self) -> None:
        """Ask what a withdrawal costs until it costs nothing: the ledger hears of the compensation as the demo does."""
        order = {"kind": "withdrawal", "payer": "wallet:courier", "payee": "bank:DEMO:0002", "amount_minor": 40_000}
        self._await_quote(order, lambda said: not said["fee_minor"])

    def _await_quote(self, order: Mapping[str, Any], is_it: Callable[[Mapping[str, Any]], bool]) -> None:
        """Ask what would become of an order until it is what is awaited: the ledger hears of news as the demo does."""
        said: Mapping[str, Any] | None = None
        while said is None or not is_it(said):
            asked = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
            self._send("transfer.quote", order["payer"], {"quote_id": asked, "currency": CURRENCY, **order})
            said = self._await(lambda event: event.get("quote_id") == asked, "a quote")  # noqa: B023 - used at once

    def _plan(self, starts_at: datetime, ends_at: datetime) -> str:
        window_id = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        card = {"kind": "card", "text": "Pay by bank card.", "text_in": _in_chinese("请使用银行卡支付。")}
        free = {"kind": "fee_waiver", "value": 1, "text": "Your next withdrawal costs no fee."}
        plan = {
            "title": "Upgrade of the ledger",
            "reason": "We upgrade the ledger.",
            "reason_in": _in_chinese("账务系统升级。"),
            "starts_at": starts_at.isoformat(),
            "ends_at": ends_at.isoformat(),
            "functions": ["transfer"],
            "treatment": "hold",
            "alternatives": [card],
            "compensation": {**free, "text_in": _in_chinese("您的下一笔提现免手续费。")},
        }
        self._change("window.schedule", window_id, plan)
        return window_id

    def _change(self, type_: str, window_id: str, data: Mapping[str, Any]) -> None:
        self._send(type_, window_id, {"window_id": window_id, **data}, topic="maintenance.commands")

    def _batch(self) -> None:
        self._title("Wages are paid all together or not at all")
        items = [self._order("p2p", "wallet:courier", f"wallet:{name}", 10_000) for name in ("landlord", "nobody")]
        batch = {"batch_id": str(uuid.UUID(int=self._dice.getrandbits(128), version=4)), "atomic": True, "items": items}
        self._send("transfer.batch", "wallet:courier", batch)
        for item in items:
            self._tell(item["transfer_id"], "failed")

    def _reach_limits(self) -> None:
        self._title("The student's tier has small limits")
        self._tell(self._p2p("student", "tea-shop", 70_000), "failed")
        self._tell(self._p2p("student", "tea-shop", 60_000), "settled")
        self._tell(self._p2p("student", "tea-shop", 50_000), "failed")
        for _ in range(3):
            self._tell(self._p2p("student", "tea-shop", 1_000), "settled")
        self._tell(self._p2p("student", "tea-shop", 1_000), "failed")
        self._move_clock(timedelta(days=1))
        self._tell(self._p2p("student", "tea-shop", 50_000), "settled")
        self._tell(self._p2p("student", "tea-shop", 20_000), "failed")

    def _give_back(self) -> None:
        self._title("Payments are given back")
        id_ = self._p2p("courier", "tea-shop", 8_000)
        self._tell(id_, "settled")
        self._refund(id_, "wallet:courier", 3_000)
        self._tell(id_, what="transfer.refunded")
        self._refund(id_, "wallet:courier", 6_000)
        self._tell(id_, what="transfer.command_refused")
        self._refund(id_, "wallet:courier", None)
        self._tell(id_, "refunded")
        id_ = self._request("top_up", "bank:DEMO:0001", "wallet:landlord", 40_000)
        self._tell(id_, "settled")
        self._refund(id_, "wallet:landlord", None)
        self._tell(id_, "refunding")
        self._tell(id_, "refunded")

    def _pay_out(self) -> None:
        self._title("Banks refuse, return and contradict themselves")
        for account, outcome in (("WRONG", "refunded"), ("REJECT", "refunded")):
            id_ = self._request("withdrawal", "wallet:courier", f"bank:DEMO:{account}", 30_000)
            self._tell(id_, "sent")
            self._tell(id_, outcome)
        returned = self._request("withdrawal", "wallet:courier", "bank:DEMO:RETURN", 30_000)
        self._tell(returned, "settled")
        late = self._request("withdrawal", "wallet:courier", "bank:DEMO:LATE", 30_000)
        self._tell(late, "refunded")
        self._move_clock(timedelta(minutes=11))
        self._tell(returned, "refunded")
        self._tell(late, what="transfer.discrepancy")

    def _lose_patience(self) -> None:
        self._title("A bank is silent over the holidays")
        lost = self._request("withdrawal", "wallet:courier", "bank:DEMO:LOST", 45_000)
        self._tell(lost, "sent")
        silent = self._request("withdrawal", "wallet:courier", "bank:DEMO:SILENT", 55_000)
        self._tell(silent, "sent")
        self._move_clock(timedelta(minutes=3))
        for id_ in (lost, silent):
            self._tell(id_, "delayed")
        self._tell(lost, "refunded")
        self._move_clock(timedelta(days=11))
        self._tell(silent, what="transfer.refund_overdue")
        evidence = {"outcome": "settled", "evidence": "the bank's letter", "by": "operator"}
        self._send("transfer.resolve", "wallet:courier", {"transfer_id": silent, **evidence})
        self._tell(silent, "settled", "a person asked the bank")

    def _close_a_wallet(self) -> None:
        self._title("A guide leaves: the balance is paid out, and nobody knows the guide any more")
        guide = self._come(LEAVING[0], 88_800)
        case_id = self._apply("wallet:guide", guide, payout=_account_of(guide, "0005"))
        self._tell(case_id, what="closure.approved")
        self._about_case("closure.confirm", case_id)
        for step in ("draining", "paying_out", "erasing"):
            self._tell(case_id, what=f"closure.{step}")
        self._leaving.append(case_id)
        self._tell(self._p2p("courier", "guide", 1_000), "failed")

    def _close_a_loan(self) -> None:
        self._title("A tailor may leave once the loan is paid, which is closed, too")
        tailor = self._come(LEAVING[1], 0)
        self._owe("tailor", "sewing-machine", 120_000)
        self._tell(self._apply("wallet:tailor", tailor), what="closure.rejected")
        self._owe("tailor", "sewing-machine", 0)
        loan = self._apply("loan:sewing-machine", tailor)
        self._tell(loan, what="closure.approved")
        self._about_case("closure.confirm", loan)
        for what in ("loan.disabled", "credit.status_changed", "closure.closed"):
            self._tell(loan, what=what)
        wallet = self._apply("wallet:tailor", tailor)
        self._tell(wallet, what="closure.approved")
        self._about_case("closure.confirm", wallet)
        self._tell(wallet, what="closure.erasing")
        self._leaving.append(wallet)

    def _mend_a_closing(self) -> None:
        self._title("A baker's application has a mistake, and the bank refuses the payout")
        baker = self._come(LEAVING[2], 45_600)
        wrong = {**baker.applicant(), "name": "Lucy Ling"}
        case_id = self._apply("wallet:baker", baker, applicant=wrong, payout=_account_of(baker, "WRONG"))
        self._tell(case_id, what="closure.documents_required")
        self._about_case("closure.correct", case_id, applicant=baker.applicant())
        self._tell(case_id, what="closure.approved")
        self._about_case("closure.confirm", case_id)
        self._tell(case_id, what="closure.payout_failed")
        self._tell(self._p2p("courier", "baker", 1_000), "failed")
        self._about_case("closure.payout_account", case_id, **_account_of(baker, "0006"))
        self._tell(case_id, what="closure.erasing")
        self._leaving.append(case_id)

    def _clear(self) -> None:
        self._title("A market closes: after a dry run, its wallets are cleared")
        florist, cobbler = self._come(LEAVING[3], 23_400), self._come(LEAVING[4], 0)
        self._open("weaver", "weaver", "standard")
        self._owe("weaver", "loom", 90_000)
        rehearsed = self._start_clearance(timedelta(0), dry_run=True)
        self._tell(rehearsed, what="clearance.finished", note="nothing has happened yet")
        clearance = self._start_clearance(timedelta(hours=1))
        self._tell(clearance, what="clearance.announced")
        self._move_clock(timedelta(hours=1))
        named, empty, owing = (self._tell_begun(wallet) for wallet in MARKET)
        self._about_case("closure.payout_account", named, **_account_of(florist, "0007"))
        self._tell(empty, what="closure.erasing", note=f"{cobbler.name} had nothing to get")
        self._tell(owing, what="closure.rejected")
        self._tell(named, what="closure.erasing")
        self._leaving += [empty, named]
        # How far it is, is said every ten seconds.
        self._move_clock(timedelta(minutes=1))
        self._tell(clearance, what="clearance.finished")

    def _forget(self) -> None:
        self._title("Whoever left is forgotten, as soon as their receipts have gone out")
        for case_id in self._leaving:
            self._tell(case_id, what="closure.closed")

    def _look_at_a_closing(self) -> None:
        self._title("A potter of 78 years applies: a person has to look at it, which nobody has done yet")
        potter = self._come(READERS[-1], 12_300)
        case_id = self._apply("wallet:potter", potter, payout=_account_of(potter, "0008"))
        self._tell(case_id, what="closure.in_review", note="`sluice cases --review` lists it")

    def _misread(self) -> None:
        self._title(
            "The billing team writes an amount as text: nobody can read that, and it is put aside, with the reason"
        )
        bill = {**self._order("fee", "wallet:courier", "platform:fees", 0), "amount_minor": "12.50"}
        self._send("transfer.request", "wallet:courier", bill)
        self._producer.flush(_PATIENCE_S)
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := self._letters()):
            if time.monotonic() > deadline:
                raise DemoError(f"The demo stood still: no dead letter came for {_PATIENCE_S:g} s.")
        (letter,) = found
        self._say(f"{letter.id} because of [yellow]{letter.reason}[/yellow] ({escape(letter.detail)})")
        self._say("once the team has mended it, it is replayed; `sluice dlq ls` lists it")

    def _letters(self) -> list[Letter]:
        listed = asyncio.run(first_letters(running_from(self._endpoints), Selection(), set(State), 10))
        return [letter for letter, _ in listed.first]

    def _start_clearance(self, ahead: timedelta, *, dry_run: bool = False) -> str:
        clearance_id = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        begun = self._now()
        moments = {"announce_at": begun, "starts_at": begun + ahead, "deadline": begun + timedelta(days=30)}
        start = {"clearance_id": clearance_id, "cause": "termination", "subjects": MARKET, "rate_per_s": 10}
        start |= {name: moment.isoformat() for name, moment in moments.items()} | {"dry_run": dry_run}
        self._send("clearance.start", clearance_id, start, topic="closure.commands")
        return clearance_id

    def _tell_begun(self, wallet: str) -> str:
        """Wait for the case that a clearance begins for a wallet, and tell it; return its id."""

        def is_it(event: Mapping[str, Any]) -> bool:
            return event["type"] == "closure.received" and event["subject"] == wallet and "clearance_id" in event

        event = self._await(is_it, f"the clearance of {wallet}")
        self._say(sentence_of(event))
        self._closed[event["case_id"]] = wallet
        return str(event["case_id"])

    def _come(self, reader: Reader, minor: int) -> Reader:
        """Have somebody come who will leave: known, with a wallet that holds something."""
        self._profile(reader.profile())
        self._open(reader.customer_id, reader.customer_id, "standard")
        if minor:
            paid_in = self._request("top_up", "bank:DEMO:0001", f"wallet:{reader.customer_id}", minor)
            self._tell(paid_in, "settled")
        return reader

    def _owe(self, customer_id: str, obligation_id: str, minor: int) -> None:
        position = {
            "obligation_id": obligation_id,
            "customer_id": customer_id,
            "kind": "loan",
            "principal_minor": minor,
            "interest_minor": 0,
            "penalty_minor": 0,
            "currency": CURRENCY,
            "status": "open" if minor else "settled",
        }
        self._send("obligation.position", obligation_id, position, topic="obligation.positions")

    def _apply(self, subject: str, reader: Reader, **more: Any) -> str:
        case_id = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        self._closed[case_id] = subject
        request = {"subject": subject, "reason": "No longer needed.", "applicant": reader.applicant(), **more}
        self._about_case("closure.request", case_id, **request)
        return case_id

    def _about_case(self, type_: str, case_id: str, **data: Any) -> None:
        self._send(type_, self._closed[case_id], {"case_id": case_id, **data}, topic="closure.commands")

    def _be_busy(self) -> None:
        count, names = 3_000, [f"customer-{number}" for number in range(40)]
        self._title(f"A busy Saturday: {count:,} transfers between {len(names)} wallets, more than they can afford")
        in_app = {"channels": {"sms": False, "email": False, "in_app": True}}
        for name in names:
            self._profile({"customer_id": name, "name": "顾客", "preferences": in_app})
            self._send("account.open", f"wallet:{name}", self._opening(name, name, "unlimited"))
            self._request("top_up", "bank:DEMO:0001", f"wallet:{name}", 1_000_000)
        for name in names:
            self._await(_is_opening_of(f"wallet:{name}"), f"the opening of wallet:{name}")
        began = time.monotonic()
        ids = {self._busy_transfer(names) for _ in range(count)}
        ended: Counter[str] = Counter()
        while ids:
            for event in self._listen(f"{len(ids)} transfers of the rush"):
                if event.get("transfer_id") in ids and event.get("status") in {"settled", "failed"}:
                    ids.discard(event["transfer_id"])
                    ended[event["reason"]["code"] if "reason" in event else event["status"]] += 1
        # Their reason is the point: nobody pays what they do not have, however busy it is.
        failed = [f"{number:,} failed because of {code}, as intended" for code, number in _but_settled(ended)]
        said = ", ".join([f"{ended['settled']:,} settled", *failed])
        self._say(f"after {time.monotonic() - began:.1f} s: {said}")

    def _busy_transfer(self, names: Sequence[str]) -> str:
        payer, payee = self._dice.sample(names, 2)
        if self._dice.random() < 0.2:
            return self._request("withdrawal", f"wallet:{payer}", "bank:DEMO:0003", self._dice.randrange(1, 90_000))
        return self._p2p(payer, payee, self._dice.randrange(1, 200_000))

    def _read_messages(self) -> None:
        self._title("What people read")
        # What was gathered goes out now.
        self._move_clock(timedelta(minutes=5))
        self._twice = show_messages(self._endpoints, self._console, _PATIENCE_S)

    # --- Commands ---

    def _opening(self, name: str, customer: str, tier: str) -> dict[str, Any]:
        return {"account_id": f"wallet:{name}", "customer_id": customer, "currency": CURRENCY, "tier": tier}

    def _open(self, name: str, customer: str, tier: str) -> None:
        self._send("account.open", f"wallet:{name}", self._opening(name, customer, tier))
        self._tell(f"wallet:{name}", what="account.opened")

    def _account(self, name: str, type_: str, data: Mapping[str, Any]) -> str:
        return self._send(type_, f"wallet:{name}", {"account_id": f"wallet:{name}", **data})

    def _profile(self, profile: Mapping[str, Any]) -> None:
        self._send("customer.profile", profile["customer_id"], profile, topic="customer.profiles")

    def _order(self, kind: str, payer: str, payee: str, minor: int, **more: Any) -> dict[str, Any]:
        id_ = more.pop("id_", None) or str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        order = {"transfer_id": id_, "kind": kind, "payer": payer, "payee": payee, "amount_minor": minor}
        return {**order, "currency": CURRENCY, **more}

    def _request(self, kind: str, payer: str, payee: str, minor: int, **more: Any) -> str:
        order = self._order(kind, payer, payee, minor, **more)
        self._send("transfer.request", payer if payer.startswith("wallet:") else payee, order)
        return str(order["transfer_id"])

    def _p2p(self, payer: str, payee: str, minor: int, **more: Any) -> str:
        return self._request("p2p", f"wallet:{payer}", f"wallet:{payee}", minor, **more)

    def _verify_with(self, transfer_id: str, outcome: str) -> None:
        data = {"transfer_id": transfer_id, "method": "sms_otp", "outcome": outcome}
        self._send("transfer.verify", "wallet:landlord", data)

    def _refund(self, transfer_id: str, key: str, minor: int | None) -> None:
        refund_id = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        data = {"refund_id": refund_id, "transfer_id": transfer_id, "reason": "returned goods", "amount_minor": minor}
        self._send("transfer.refund", key, data)

    def _send(self, type_: str, key: str, data: Mapping[str, Any], topic: str = "transfer.commands") -> str:
        id_ = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
        headers: Any = encode_headers(type_, id=id_, source="demo", time=self._now().isoformat(), subject=key)
        self._producer.produce(topic, key=key, value=orjson.dumps(data), headers=headers)
        self._producer.poll(0)
        return id_

    # --- Events ---

    def _tell(self, subject: str, status: str | None = None, note: str = "", *, what: str | None = None) -> None:
        """Wait for the event about a transfer, account, quote, command, window, case or clearance, and tell it."""

        def is_it(event: Mapping[str, Any]) -> bool:
            names = {event.get(name) for name in _SUBJECTS}
            fits_status = status is None or event.get("status") == status
            return subject in names and fits_status and (what is None or event["type"] == what)

        event = self._await(is_it, f"{what or status or 'an answer'} for {subject}")
        self._say(sentence_of(event) + (f" ({note})" if note else ""))

    def _await(self, is_it: Callable[[Mapping[str, Any]], bool], what: str) -> dict[str, Any]:
        while True:
            for place, event in enumerate(self._seen.events):
                if is_it(event):
                    return self._seen.events.pop(place)
            self._seen.events += self._listen(what)

    def _listen(self, what: str) -> list[dict[str, Any]]:
        self._producer.flush(_PATIENCE_S)
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            events = [self._note(message) for message in self._consumer.consume(1_000, 0.1) if message.error() is None]
            if events:
                return events
        raise DemoError(f"The demo stood still: nothing came for {_PATIENCE_S:g} s while waiting for {what}.")

    def _note(self, message: Any) -> dict[str, Any]:
        headers = dict(message.headers())
        event: dict[str, Any] = orjson.loads(message.value())
        event["type"] = headers["ce_type"].decode().removeprefix("sluice.").removesuffix(".v1")
        if event["type"].startswith("transfer.") and "seq" in event:
            self._seen.statuses[event["status"]] += 1
        # Those of commands about windows and cases are other tables', and a window's own is a sentence for customers.
        if isinstance(event.get("reason"), dict) and not event["type"].startswith(("window.", "closure.")):
            self._seen.reasons[event["reason"]["code"]] += 1
        return event

    # --- Time and words ---

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(self._clock.read_text()))

    def _move_clock(self, by: timedelta) -> None:
        half = self._clock.with_suffix(".new")
        half.write_text(str(float(self._clock.read_text()) + by.total_seconds()))
        half.replace(self._clock)
        self._console.print(f"  [dim]… the clocks move to {self._now().astimezone(BUSINESS_ZONE):%a %d %b %H:%M}[/dim]")

    def _title(self, text: str) -> None:
        self._console.print(f"[bold]{text}[/bold]")

    def _say(self, text: str) -> None:
        self._console.print(f"  {self._now().astimezone(BUSINESS_ZONE):%H:%M:%S}  {text}", soft_wrap=True)

    # --- The end ---

    def report(self) -> bool:
        """Print what the two weeks reached and whether the ledger adds up; return whether all is well."""
        missed = sorted((STATUSES - self._seen.statuses.keys()) | (REASONS - self._seen.reasons.keys()))
        table = Table("status", "events", "reason", "times", box=None, pad_edge=False, title="The two weeks in numbers")
        statuses, reasons = self._seen.statuses.most_common(), self._seen.reasons.most_common()
        for place in range(max(len(statuses), len(reasons))):
            left = statuses[place] if place < len(statuses) else ("", "")
            right = reasons[place] if place < len(reasons) else ("", "")
            table.add_row(left[0], f"{left[1]}", right[0], f"{right[1]}")
        self._console.print()
        self._console.print(table)
        audit = asyncio.run(audit_everything(running_from(self._endpoints)))
        is_clean = not audit.findings
        verdict = "everything adds up" if is_clean else "NOT CLEAN"
        self._console.print(f"\nAudit of {audit.looked_at}: {verdict}.", soft_wrap=True)
        for finding in audit.findings:
            self._console.print(f"  broken: {finding.rule}: {finding.rows[:3]}")
        if missed:
            self._console.print(f"They missed: {', '.join(missed)}.")
        else:
            self._console.print(
                f"They reached all {len(STATUSES)} statuses and all {len(REASONS)} reasons of transfers and wallets."
            )
        are_forgotten = self._report_closings()
        return is_clean and not missed and not self._twice and are_forgotten

    def _report_closings(self) -> bool:
        """Print how the closings ended and who is forgotten; return whether all is as the story says."""
        said: Forgotten = asyncio.run(look_at_closings(running_from(self._endpoints), list(self._closed)))
        self._console.print(said.text, soft_wrap=True)
        return said.is_well


def _in_chinese(text: str) -> list[dict[str, str]]:
    return [{"locale": "zh-CN", "text": text}]


MARKET: Final = ("wallet:florist", "wallet:cobbler", "wallet:weaver")
"""The wallets of the clearance: one that holds something, an empty one, and one whose holder owes something."""

_SUBJECTS: Final = (
    "transfer_id",
    "account_id",
    "quote_id",
    "command_id",
    "window_id",
    "case_id",
    "clearance_id",
    "customer_id",
)
"""What an event may be about."""


def _account_of(reader: Reader, number: str) -> dict[str, str]:
    return {"payee": f"bank:DEMO:{number}", "payee_name": reader.name}


def _but_settled(ended: Counter[str]) -> list[tuple[str, int]]:
    return [(code, number) for code, number in ended.most_common() if code != "settled"]


def _is_opening_of(account_id: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda event: event["type"] == "account.opened" and event["account_id"] == account_id
