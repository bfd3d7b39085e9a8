-- Closing a wallet: for which case, what waits in it, and how far reports on wallets have come.

alter table account
    add column case_id uuid,
    add constraint account_has_a_case_unless_it_is_open check ((status = 'open') = (case_id is null)),
    add constraint account_is_empty_when_it_is_closed
        check (status <> 'closed' or (posted_minor = 0 and reserved_minor = 0));

-- The wallet whose closing cancels a transfer: it waits to pay, or to take the money of a top-up. What does not wait
-- has none, so most transfers never touch the index, and a status changes beside the old one.
alter table transfer
    add column waiting_of text collate "C" generated always as (
        case
            when status not in ('scheduled', 'verification_required', 'held') then null
            when payer like 'wallet:%' then payer
            when kind = 'top_up' then payee
        end
    ) stored;
create index transfer_waits on transfer (waiting_of, transfer_id) where waiting_of is not null;

-- A report of all wallets that is not finished: which was told of last, how many were, and what they had posted.
create table account_report (
    report_id       uuid primary key,
    last_account_id text collate "C" not null,
    count           bigint not null,
    total_minor     jsonb not null
);
