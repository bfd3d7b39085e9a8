"""What can be seen from this machine: the settings as each service reads them, the disk, and the services' pages."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from local.settings_check import wrong_settings
from ops.doctor.model import Check, advice, ok, unknown, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ops.running import Running

_LEAST_FREE_BYTES: Final = 5e9
_WITHIN_S: Final = 3.0


def check_settings(running: Running, keys: Mapping[str, str]) -> list[Check]:
    """Return what each service would make of the settings of this environment."""
    found = wrong_settings(running.kafka, running.database, keys)
    return [
        wrong(
            "settings", f"{service}: {said.removesuffix('.')}", "set it as the README says, the same for every worker"
        )
        if said
        else ok("settings", f"{service}: it would start with these")
        for service, said in found.items()
    ]


def check_disk(home: Path) -> list[Check]:
    """Return how full the disk of a local run is; nothing where there is none."""
    if not (home / "data").exists():
        return []
    usage = shutil.disk_usage(home / "data")
    said = f"{usage.free / 1e9:,.0f} of {usage.total / 1e9:,.0f} GB of the disk under {home / 'data'} are free"
    if usage.free < _LEAST_FREE_BYTES:
        return [wrong("engines", said, "make room: a broker or a database that has none stops")]
    return [ok("engines", said)]


async def check_services(running: Running) -> list[Check]:
    """Return what the workers' pages and the monitor's say; their addresses are those of `sluice up`."""
    checks: list[Check] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_WITHIN_S)) as client:
        checks += await asyncio.gather(*(_worker(client, service) for service in running.services))
        if running.monitor is not None:
            checks.append(await _monitor(client, running.monitor))
    if running.monitor is None:
        said = "no monitor is known here"
        checks.append(advice("monitor", said, "run `sluice monitor`, and have Prometheus scrape it"))
    return checks


async def _worker(client: aiohttp.ClientSession, service: Mapping[str, Any]) -> Check:
    name = f"{service['name']}, process {service['pid']}"
    try:
        async with client.get(f"{service['health']}/readyz") as answer:
            said = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        found = f"{name} does not answer ({type(error).__name__})"
        return unknown("services", found, "see whether it is alive, and its log")
    if answer.ok:
        return ok("services", f"{name}: {said['status']}")
    return wrong("services", f"{name} is not ready: {'; '.join(said['reasons'])}", "see docs/operations.md")


async def _monitor(client: aiohttp.ClientSession, address: str) -> Check:
    try:
        async with client.get(f"{address}/healthz") as answer:
            said = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return unknown("monitor", f"{address} does not answer ({type(error).__name__})", "see its log")
    if answer.ok:
        return ok("monitor", f"{address} looks at the lag")
    return wrong("monitor", f"{address}: {said['status']}", "see whether the brokers answer")


def in_order(checks: list[Check]) -> Iterator[Check]:
    """Yield the checks by area, as each stands on the one before."""
    order = ("engines", "clock", "settings", "topics", "migrations", "permissions", "services", "monitor")
    yield from sorted(checks, key=lambda check: order.index(check.area))
