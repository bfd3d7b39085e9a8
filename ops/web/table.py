"""The table of pages: what each needs is said here and nowhere else."""

from __future__ import annotations

from typing import Final

from ops.web.gate import Page
from ops.web.pages import lag, signing_in, static
from ops.web.users import Role

PAGES: Final = (
    Page("GET", "/static/{name}", None, static.give),
    Page("GET", "/sign-in", None, signing_in.ask),
    Page("POST", "/sign-in", None, signing_in.sign_in),
    Page("POST", "/sign-out", Role.VIEWER, signing_in.sign_out),
    Page("GET", "/", Role.VIEWER, signing_in.first_page),
    Page("GET", "/lag", Role.VIEWER, lag.board),
    Page("GET", "/lag/live", Role.VIEWER, lag.live),
    Page("GET", "/lag/group", Role.VIEWER, lag.group),
)  # fmt: skip
"""Method, path, the least role (None: nobody has to be signed in), and what answers."""
