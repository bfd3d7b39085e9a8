"""What applicants say, encrypted under their customer's key, or the case's own as long as nobody knows whose it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from services.closure.model import Application, PayoutAccount
from services.runtime.personal_data import decrypt, encrypt, new_key, unwrap_key, wrap_key

if TYPE_CHECKING:
    from services.closure.model import Case, Customer


def open_application(master_key: bytes, case: Case, customer: Customer | None) -> Application | None:
    """Return what an applicant said; None where nothing is kept of it, or it is not to be read any more."""
    wrapped = case.wrapped_key if case.customer_id is None or customer is None else customer.wrapped_key
    if case.sealed is None or wrapped is None:
        return None
    key = unwrap_key(master_key, wrapped, _owner(case))
    said = orjson.loads(decrypt(key, case.sealed, _use(case)))
    lists = {"documents": tuple(said["documents"]), "reviews": tuple(said["reviews"])}
    judged = said.get("judged")
    return Application(**{**said, **lists, "judged": None if judged is None else PayoutAccount(**judged)})


def seal_application(master_key: bytes, case: Case, customer: Customer | None, application: Application) -> bool:
    """Encrypt what an applicant said into their case; tell whether their customer got a key for it."""
    is_new = False
    if customer is None:
        key = new_key() if case.wrapped_key is None else unwrap_key(master_key, case.wrapped_key, _owner(case))
        case.wrapped_key = case.wrapped_key or wrap_key(master_key, key, _owner(case))
    else:
        case.wrapped_key = None
        is_new = customer.wrapped_key is None
        key = new_key() if customer.wrapped_key is None else unwrap_key(master_key, customer.wrapped_key, _owner(case))
        customer.wrapped_key = customer.wrapped_key or wrap_key(master_key, key, _owner(case))
    case.sealed = encrypt(key, orjson.dumps(asdict(application)), _use(case))
    return is_new


def _owner(case: Case) -> str:
    return case.customer_id or str(case.case_id)


def _use(case: Case) -> bytes:
    return b"application:" + case.case_id.bytes
