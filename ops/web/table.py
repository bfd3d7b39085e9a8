"""The table of pages: what each needs is said here and nowhere else."""

from __future__ import annotations

from typing import Final

from ops.web.gate import Page
from ops.web.pages import (
    acts,
    audit,
    cases,
    lag,
    letters,
    linking,
    notices,
    public,
    signing_in,
    static,
    tracing,
    windows,
)
from ops.web.users import Role

PAGES: Final = (
    Page("GET", "/static/{name}", None, static.give),
    Page("GET", "/status", None, public.status),
    Page("GET", "/follow/{token}", None, public.follow_one),
    Page("GET", "/sign-in", None, signing_in.ask),
    Page("POST", "/sign-in", None, signing_in.sign_in),
    Page("POST", "/sign-out", Role.VIEWER, signing_in.sign_out),
    Page("GET", "/", Role.VIEWER, signing_in.first_page),
    Page("GET", "/lag", Role.VIEWER, lag.board),
    Page("GET", "/lag/live", Role.VIEWER, lag.live),
    Page("GET", "/lag/group", Role.VIEWER, lag.group),
    Page("GET", "/letters", Role.VIEWER, letters.show),
    Page("GET", "/letters/one", Role.VIEWER, letters.show_one),
    Page("POST", "/letters/replay", Role.OPERATOR, letters.replay),
    Page("POST", "/letters/discard", Role.OPERATOR, letters.discard),
    Page("GET", "/windows", Role.VIEWER, windows.show),
    Page("GET", "/windows/plan", Role.OPERATOR, windows.ask_plan),
    Page("POST", "/windows/plan", Role.OPERATOR, windows.plan),
    Page("GET", "/windows/{window:uuid}", Role.VIEWER, windows.show_one),
    Page("POST", "/windows/{window:uuid}/{change}", Role.OPERATOR, windows.change),
    Page("GET", "/cases", Role.VIEWER, cases.show),
    Page("GET", "/cases/{case:uuid}", Role.VIEWER, cases.show_one),
    Page("POST", "/cases/{case:uuid}/{decision}", Role.REVIEWER, cases.decide_one),
    Page("GET", "/trace", Role.VIEWER, tracing.show),
    Page("POST", "/trace/link", Role.OPERATOR, linking.make),
    Page("GET", "/notices", Role.VIEWER, notices.show),
    Page("GET", "/audit", Role.VIEWER, audit.show),
    Page("POST", "/audit", Role.OPERATOR, audit.run),
    Page("GET", "/acts", Role.VIEWER, acts.show),
)  # fmt: skip
"""Method, path, the least role (None: nobody has to be signed in), and what answers."""
