-- Maintenance: this service's own copy of the windows, what they hold, and the fees that they waive.

alter table transfer
    add column may_be_held boolean not null default true;

-- A window, from the event of its highest revision. One that is over stays, so that an older event changes nothing.
create table closed_window (
    window_id    uuid primary key,
    revision     bigint not null,
    is_over      boolean not null,
    functions    text[] not null,
    banks        text[] not null,
    currencies   text[] not null,
    starts_at    timestamptz not null,
    ends_at      timestamptz not null,
    is_confirmed boolean not null,
    holds        boolean not null,
    alternatives jsonb not null
);
create index closed_window_to_come on closed_window (starts_at) where not is_over;

-- A transfer that waits for a window's end; those of a lane go on in the order of their numbers.
create table held_transfer (
    transfer_id uuid primary key,
    number      bigint not null,
    window_id   uuid not null,
    partition   integer not null
);
create index held_transfer_next on held_transfer (window_id, partition, number);
create index held_transfer_last on held_transfer (partition, number);

-- What a window did to transfers; each lane adds to its own row.
create table window_tally (
    window_id uuid not null,
    stripe    integer not null,
    held      bigint not null default 0,
    refused   bigint not null default 0,
    released  bigint not null default 0,
    primary key (window_id, stripe)
);

-- Fees that a customer need not pay, because of a window.
create table fee_waiver (
    compensation_id uuid primary key,
    customer_id     text collate "C" not null,
    window_id       uuid not null,
    remaining       bigint not null,
    expires_at      timestamptz not null,
    constraint fee_waiver_is_used_up_at_most check (remaining >= 0)
);
create index fee_waiver_usable on fee_waiver (expires_at) where remaining > 0;
create index fee_waiver_of_customer on fee_waiver (customer_id) where remaining > 0;
