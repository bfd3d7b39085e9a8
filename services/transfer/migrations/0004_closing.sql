-- Closing wallets for a case, and reports of how wallets stand.

alter table account
    add column case_id uuid,
    add column has_waiting boolean not null default false,
    add constraint account_is_closed_for_a_case check ((status = 'open') = (case_id is null)),
    add constraint account_is_closed_empty
        check (status <> 'closed' or (posted_minor = 0 and reserved_minor = 0 and not has_waiting)),
    add constraint only_a_closing_account_has_waiting check (not has_waiting or status = 'closing');

-- What waits, by the wallet that it waits to leave, or for a top-up to reach; only rows that wait are in it.
create index transfer_waiting_of_wallet
on transfer ((case when payer like 'wallet:%' then payer else payee end))
where status in ('scheduled', 'verification_required', 'held');

-- How far a report of all wallets is.
create table account_report (
    report_id    uuid primary key,
    last_account text collate "C" not null,
    count        bigint not null,
    totals       jsonb not null,
    is_finished  boolean not null
);
