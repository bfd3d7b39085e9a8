-- Clearances: what ends many wallets, how far each is, and what every wallet held when it was asked about.

-- A clearance with its latest event. `last_account` is the last wallet whose case was begun; cases begin at `rate_per_s`
-- from `rate_from` on, when `rate_begun` had begun. `wave_at` is when those without a payout account are spoken to next,
-- `wave_after` the last of them that was. `subjects` are the wallets that it names; null means all.
create table clearance (
    clearance_id   uuid primary key,
    content_hash   bytea not null,
    cause          text not null,
    dry_run        boolean not null,
    announce_at    timestamptz not null,
    starts_at      timestamptz not null,
    deadline       timestamptz not null,
    rate_per_s     integer not null,
    status         text not null,
    paused         boolean not null,
    correlation_id text,
    traceparent    text,
    wallets        bigint not null,
    revision       integer not null,
    event_type     text not null,
    event_body     bytea not null,
    occurred_at    timestamptz,
    asked_at       timestamptz,
    last_account   text collate "C" not null,
    begun          bigint not null,
    rate_from      timestamptz,
    rate_begun     bigint not null,
    wave_at        timestamptz,
    wave_after     text collate "C" not null,
    subjects       jsonb,
    constraint clearance_status_is_known
        check (status in ('planned', 'announced', 'reporting', 'running', 'finished')),
    constraint clearance_starts_before_its_deadline check (announce_at <= starts_at and starts_at < deadline),
    constraint clearance_has_a_rate check (rate_per_s > 0)
);

-- What the transfer service was asked of wallets for a clearance, and how much of the answer has come.
create table clearance_report (
    report_id    uuid primary key,
    clearance_id uuid not null references clearance,
    expected     bigint,
    received     bigint not null default 0
);
create index report_of_clearance on clearance_report (clearance_id);

-- A wallet as a clearance found it, and the case that closes it; one that was closed by then is no part of it.
create table clearance_wallet (
    clearance_id uuid not null,
    account_id   text collate "C" not null,
    customer_id  text collate "C" not null,
    currency     text not null,
    status       text not null,
    posted_minor bigint not null,
    case_id      uuid,
    is_own       boolean not null default false,
    constraint clearance_wallet_is_found_once primary key (clearance_id, account_id),
    constraint own_case_is_named check (case_id is not null or not is_own),
    constraint closed_wallet_has_no_case check (status <> 'closed' or case_id is null)
)
with (fillfactor = 70);
create index clearance_wallet_of_others on clearance_wallet (clearance_id, account_id)
where case_id is not null and not is_own;

-- Those of a clearance that wait for a payout account are spoken to in the order of their wallets.
drop index case_of_clearance;
create index case_of_clearance on closing_case (clearance_id, status, subject) where clearance_id is not null;
