"""The file that names the gateways: mail servers, HTTP interfaces and message centres, with what each may be given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import Field, model_validator

from services.notify.gateways.http_sms import HttpSmsConfig, HttpSmsGateway
from services.notify.gateways.route import Route, make_email, make_sms
from services.notify.gateways.smpp import SmppConfig, SmppGateway
from services.notify.gateways.smtp import SmtpGateway, SmtpSettings
from services.notify.model import Channel
from services.runtime.checked_files import Strict, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.notify.gateways.gateway import Email, Gateway, OnReceipts, Sms
    from services.runtime.clock import Clock

DEFAULT_GATEWAYS: Final = Path(__file__).with_name("gateways.toml")


class Gateways(Strict):
    """Everything in the file; without any gateway what has to leave waits until it expires.

    `rates` is how many messages a second a gateway may be given by all workers together, by its name.
    """

    smtp: tuple[SmtpSettings, ...] = ()
    http_sms: tuple[HttpSmsConfig, ...] = ()
    smpp: tuple[SmppConfig, ...] = ()
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})

    @property
    def names(self) -> list[str]:
        """Every gateway's name."""
        listed: tuple[SmtpSettings | HttpSmsConfig | SmppConfig, ...] = (*self.smtp, *self.http_sms, *self.smpp)
        return [gateway.name for gateway in listed]

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        names = self.names
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"more than one gateway is called {', '.join(sorted(twice))}")
        if unknown := self.rates.keys() - set(names):
            raise ValueError(f"there is a rate for {', '.join(sorted(unknown))}, but no such gateway")
        return self

    @property
    def called_back(self) -> Mapping[str, HttpSmsConfig]:
        """The gateways that bring receipts over HTTP, by name."""
        return {gateway.name: gateway for gateway in self.http_sms if gateway.callback is not None}

    def open(self, on_receipts: OnReceipts, clock: Clock) -> list[Route[Any]]:
        """Make every gateway, inside an event loop."""
        mail: list[Gateway[Email]] = [SmtpGateway(one, clock) for one in self.smtp]
        sms: list[Gateway[Sms]] = [HttpSmsGateway(one) for one in self.http_sms]
        sms += [SmppGateway(one, on_receipts, clock) for one in self.smpp]
        routes: list[Route[Any]] = [Route(one, Channel.EMAIL, self.rates.get(one.name), make_email) for one in mail]
        return routes + [Route(one, Channel.SMS, self.rates.get(one.name), make_sms) for one in sms]


def read_gateways(path: Path) -> Gateways:
    """Read and check a file of gateways; FileError names the file and the setting that is wrong."""
    return read_toml(path, Gateways)
