"""What makes each alert fire, what does not, and what explains it: what Prometheus's own tool is asked."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

_PLACE: Final = 'group="sluice.transfer",topic="transfer.commands",partition="0"'
_WORKER: Final = 'instance="a:1",job="sluice"'
WINDOW: Final = ('sluice_windows_in_force{function="transfer",bank="*"}', "1x240")
NARROW_WINDOW: Final = ('sluice_windows_in_force{function="withdrawal",bank="ICBC"}', "1x240")
PAUSE: Final = ('sluice_group_paused{group="sluice.transfer"}', "1x240")

_NAN: Final = " ".join(["NaN"] * 200)

_LOOKED_AT: Final = "3h"
"""Behind every `for`."""


class Case(NamedTuple):
    """A series with values for which the alert fires, and with others for which it does not.

    `window` and `pause` say whether a window that closes everything, or a person's pause, explains it.
    """

    series: str
    bad: str
    good: str
    window: bool = False
    pause: bool = False


CASES: Final = {
    "SluiceLagSeconds": Case(f"sluice_group_lag_seconds{{{_PLACE}}}", "300x240", "60x240", window=True, pause=True),
    "SluiceLagGrows": Case(f"sluice_group_verdict{{{_PLACE}}}", "2x240", "1x240", window=True, pause=True),
    "SluiceStalled": Case(f"sluice_group_verdict{{{_PLACE}}}", "3x240", "0x240", window=True, pause=True),
    "SluiceStopped": Case(f"sluice_group_verdict{{{_PLACE}}}", "4x240", "3x240", window=True),
    "SluiceGap": Case(f"sluice_group_verdict{{{_PLACE}}}", "5x240", "4x240"),
    "SluiceWorkerGone": Case(f"up{{{_WORKER}}}", "0x240", "1x240", window=True),
    "SluiceBraked": Case(f"sluice_braked{{{_WORKER}}}", "1x240", "0x240"),
    "SluicePausedLong": Case('sluice_group_paused{group="sluice.notify"}', "1x240", "0x240"),
    "SluiceDeadLetters": Case('sluice_dead_letters_total{topic="t",reason="malformed"}', "0+1x240", "7x240"),
    "SluiceOutboxOld": Case(f"sluice_outbox_age_seconds{{{_WORKER}}}", "90x240", "5x240", window=True),
    "SluiceTimersParked": Case(f"sluice_timers_parked{{{_WORKER}}}", "1x240", "0x240"),
    "SluiceAuditFailed": Case("sluice_audit_broken_rules", "1x240", "0x240"),
    "SluiceAuditOld": Case("sluice_audit_age_seconds", "0+60x240", "900x240"),
    "SluiceRefundOverdue": Case("sluice_refunds_overdue", "2x240", "0x240"),
    "SluiceGatewayUnwell": Case('sluice_gateway_weight{gateway="sms-a"}', "0.0625x240", "1x240"),
    "SluiceMonitorGone": Case("sluice_lag_look_age_seconds", "0+60x240", "5x240"),
}


def promtool_tests(rules: str) -> dict[str, Any]:
    """Return a file of `promtool test rules`: each alert bad, good, in windows, and paused."""
    tests = []
    for alert, case in CASES.items():
        bad, good = (case.series, case.bad), (case.series, case.good)
        tests += [
            _test(alert, "fires", [bad], fires=True),
            _test(alert, "is quiet when all is well", [good], fires=False),
            _test(alert, "in a window that closes everything", [bad, WINDOW], fires=not case.window),
            _test(alert, "in a window of one bank", [bad, NARROW_WINDOW], fires=True),
        ]
        if case.series.endswith(f"{{{_PLACE}}}"):
            tests.append(_test(alert, "paused", [bad, PAUSE], fires=not case.pause))
            value = case.bad.partition("x")[0]
            # A minute ago nobody looked, and then not for long enough.
            again, over = (case.series, f"{value}x178 stale 0x60"), (case.series, f"{value}x170 stale 0x60")
            tests.append(_test(alert, "the monitor begins anew", [again], fires=True))
            tests.append(_test(alert, "the monitor began anew and all is well", [over], fires=False))
    # What cannot be looked at is not well.
    tests.append(_test("SluiceMonitorGone", "no monitor at all", [("up", "1x240")], fires=True))
    tests.append(_test("SluiceMonitorGone", "never looked", [("sluice_lag_look_age_seconds", _NAN)], fires=True))
    tests.append(_test("SluiceAuditOld", "never audited", [("sluice_audit_broken_rules", _NAN)], fires=True))
    gone = ('sluice_windows_in_force{function="transfer",bank="*"}', "1x100 _x140")
    stalled = CASES["SluiceStalled"]
    tests.append(_test("SluiceStalled", "long after a window", [(stalled.series, stalled.bad), gone], fires=True))
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}


def _test(alert: str, name: str, series: list[tuple[str, str]], *, fires: bool) -> dict[str, Any]:
    asked = f'(count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0) or vector(0)'
    expected = {"expr": asked, "eval_time": _LOOKED_AT, "exp_samples": [{"labels": "{}", "value": int(fires)}]}
    return {
        "name": f"{alert}: {name}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [expected],
    }
