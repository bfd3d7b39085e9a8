-- The ledger of the transfer service: accounts, transfers with their steps, and the movements between accounts.

-- A wallet. Every message that touches one locks its row, so what a decision needs of it is kept here.
create table account (
    account_id                  text primary key,
    customer_id                 text not null,
    currency                    text not null,
    tier                        text not null,
    status                      text not null default 'open',
    overdraft_limit_minor       bigint not null,
    low_balance_threshold_minor bigint,
    low_balance_warned          boolean not null default true,
    debit_restricted_until      timestamptz,
    credit_restricted_until     timestamptz,
    verification_blocked_until  timestamptz,
    posted_minor                bigint not null default 0,
    reserved_minor              bigint not null default 0,
    entry_count                 bigint not null default 0,
    version                     bigint not null,
    used_on                     date not null,
    used_day_minor              bigint not null default 0,
    used_day_count              integer not null default 0,
    used_month_minor            bigint not null default 0,
    opened_at                   timestamptz not null,
    opening_hash                bytea not null,
    constraint account_status_is_known check (status in ('open', 'closing', 'closed')),
    constraint account_overdraft_is_not_negative check (overdraft_limit_minor >= 0),
    constraint account_reservation_is_not_negative check (reserved_minor >= 0),
    constraint account_use_is_not_negative
        check (used_day_minor >= 0 and used_day_count >= 0 and used_month_minor >= 0)
)
-- Room for a new version of the row beside the old one: balances change without touching an index.
with (fillfactor = 60);

-- The latest event of an account, which a repeated command is answered with; apart from the account,
-- so that a movement does not copy it.
create table account_event (
    account_id  text primary key references account,
    version     bigint not null,
    type        text not null,
    body        bytea not null,
    occurred_at timestamptz not null
);

-- The keyed hash of an account holder's normalised name; the name itself is never kept.
create table holder (
    customer_id text primary key,
    name_hash   bytea not null
);

-- A transfer with its latest event.
create table transfer (
    transfer_id             uuid primary key,
    content_hash            bytea not null,
    kind                    text not null,
    payer                   text not null,
    payee                   text not null,
    payer_customer_id       text,
    payee_customer_id       text,
    amount_minor            bigint not null,
    fee_minor               bigint not null,
    currency                text not null,
    reference               text,
    case_id                 uuid,
    status                  text not null,
    requested_at            timestamptz not null,
    execute_at              timestamptz,
    expires_at              timestamptz,
    -- The payee's name, encrypted, while the transfer waits: the bank will want it.
    payee_name_sealed       bytea,
    verified                boolean not null default false,
    attempts_left           smallint,
    resends_left            smallint,
    verification_expires_at timestamptz,
    -- The day whose limits the transfer has used.
    used_on                 date,
    inquiries               smallint not null default 0,
    unknown_answers         smallint not null default 0,
    refund_due_on           date,
    refunding_minor         bigint not null default 0,
    refunded_minor          bigint not null default 0,
    refunded_fee_minor      bigint not null default 0,
    contradiction           text,
    correlation_id          text,
    traceparent             text,
    seq                     integer not null,
    event_type              text not null,
    event_body              bytea not null,
    occurred_at             timestamptz not null,
    constraint transfer_status_is_known check (
        status in ('scheduled', 'verification_required', 'held', 'sent', 'delayed', 'settled',
                   'refunding', 'refunded', 'failed', 'cancelled', 'expired')
    ),
    constraint transfer_amount_is_positive_unless_refused check (status = 'failed' or amount_minor > 0),
    constraint transfer_refunds_are_within_the_amount check (
        refunding_minor >= 0 and refunded_minor >= 0
        and (status = 'failed' or refunding_minor + refunded_minor <= amount_minor)
    ),
    constraint transfer_refunded_fee_is_within_the_fee check (refunded_fee_minor between 0 and fee_minor)
)
with (fillfactor = 90);

-- The earlier events of a transfer; the latest stands in the transfer.
create table transfer_step (
    transfer_id uuid not null,
    seq         integer not null,
    type        text not null,
    body        bytea not null,
    occurred_at timestamptz not null,
    primary key (transfer_id, seq)
);

-- One movement of money between two accounts. Both entries are one row, so they cannot fail to sum to zero.
-- An entry of a wallet has its number and the balance after it; a platform account has neither.
create table movement (
    transfer_id        uuid not null,
    purpose            text not null,
    currency           text not null,
    amount_minor       bigint not null,
    debit_account      text not null,
    debit_number       bigint,
    debit_after_minor  bigint,
    credit_account     text not null,
    credit_number      bigint,
    credit_after_minor bigint,
    moved_at           timestamptz not null,
    constraint movement_amount_is_positive check (amount_minor > 0),
    constraint movement_is_between_two_accounts check (debit_account <> credit_account),
    constraint movement_purpose_is_known check (purpose in ('transfer', 'fee', 'refund', 'fee_refund', 'suspense')),
    constraint movement_wallet_entries_are_numbered check (
        (debit_account like 'wallet:%') = (debit_number is not null)
        and (debit_number is null) = (debit_after_minor is null)
        and (credit_account like 'wallet:%') = (credit_number is not null)
        and (credit_number is null) = (credit_after_minor is null)
    )
);
create unique index movement_debit_entry on movement (debit_account, debit_number)
where debit_number is not null;
create unique index movement_credit_entry on movement (credit_account, credit_number)
where credit_number is not null;

-- A platform account's balance is the sum of its stripes; each lane adds to its own, so none waits for another.
create table platform_stripe (
    account_id   text not null,
    currency     text not null,
    stripe       integer not null,
    posted_minor bigint not null,
    primary key (account_id, currency, stripe)
);

-- A refund that a command asked for, or the return of money that could not be booked.
create table refund (
    refund_id       uuid primary key,
    transfer_id     uuid not null,
    amount_minor    bigint not null,
    fee_minor       bigint not null,
    status          text not null,
    source_account  text not null,
    requested_at    timestamptz not null,
    due_on          date,
    inquiries       smallint not null default 0,
    unknown_answers smallint not null default 0,
    contradiction   text,
    constraint refund_status_is_known check (status in ('sent', 'delayed', 'settled', 'failed')),
    constraint refund_amount_is_positive check (amount_minor > 0)
);
create index refund_of_transfer on refund (transfer_id);

-- What a command was answered with, so that a repeat gets the same; `scope` says whose ids these are.
create table answer (
    scope        text not null,
    id           text not null,
    content_hash bytea not null,
    message_key  bytea,
    type         text,
    event_id     text,
    body         bytea,
    occurred_at  timestamptz not null,
    primary key (scope, id)
);

-- A customer's key, wrapped by the master key; destroying it makes what it sealed unreadable.
create table customer_key (
    customer_id text primary key,
    wrapped_key bytea not null
);
