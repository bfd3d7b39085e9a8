-- Windows with everything that was said of them, what people answered, and whom they owe something.

-- A window with its latest event; `plan` is what of it never changes, in the contract's words.
create table maintenance_window (
    window_id      uuid primary key,
    content_hash   bytea not null,
    plan           jsonb not null,
    starts_at      timestamptz not null,
    ends_at        timestamptz not null,
    correlation_id text,
    status         text not null,
    revision       integer not null,
    event_type     text not null,
    event_body     bytea not null,
    occurred_at    timestamptz not null,
    answer_by      timestamptz,
    constraint window_status_is_known
        check (status in ('scheduled', 'started', 'extended', 'overrun', 'ended', 'cancelled')),
    constraint window_ends_after_it_starts check (ends_at > starts_at),
    constraint only_a_confirmed_window_overruns check (status <> 'overrun' or plan ->> 'ends' = 'confirmed')
);
create index window_by_time on maintenance_window (starts_at);

-- Every event of a window, each once.
create table window_step (
    window_id   uuid not null,
    revision    integer not null,
    type        text not null,
    status      text not null,
    body        bytea not null,
    occurred_at timestamptz not null,
    constraint window_step_is_taken_once primary key (window_id, revision)
);

-- What a command without an id of its own was answered with, so that a repeat gets the same.
create table answer (
    source       text collate "C" not null,
    id           text collate "C" not null,
    content_hash bytea not null,
    window_id    uuid not null,
    type         text,
    event_id     text,
    body         bytea,
    occurred_at  timestamptz not null,
    constraint command_is_answered_once primary key (source, id)
);

-- What customers say of a window afterwards: one answer each, the last.
create table survey_answer (
    window_id   uuid not null,
    customer_id text collate "C" not null,
    score       smallint not null,
    answered_at timestamptz not null,
    constraint survey_answer_is_one_a_customer primary key (window_id, customer_id),
    constraint survey_score_is_from_1_to_5 check (score between 1 and 5)
);

-- A customer whose transfer a window held or refused, and what they get for it, once a window.
create table affected_customer (
    window_id       uuid not null,
    customer_id     text collate "C" not null,
    compensation_id uuid not null,
    granted_at      timestamptz,
    expires_at      timestamptz,
    used            integer not null default 0,
    constraint customer_is_compensated_once_a_window primary key (window_id, customer_id),
    constraint compensation_has_one_id unique (compensation_id),
    constraint what_is_granted_expires check ((granted_at is null) = (expires_at is null)),
    constraint only_what_is_granted_is_used check (used = 0 or (used > 0 and granted_at is not null))
);

-- A transfer for which a customer used what they got, each once.
create table compensation_use (
    compensation_id uuid not null,
    transfer_id     uuid not null,
    constraint compensation_is_used_once_a_transfer primary key (compensation_id, transfer_id)
);

create index affected_customer_without_compensation on affected_customer (window_id) where granted_at is null;

-- A payout that its bank has left without an answer.
create table silent_payout (
    transfer_id uuid primary key,
    bank        text collate "C" not null,
    since       timestamptz not null
);
create index silent_payout_of_bank on silent_payout (bank);

-- The window that a bank's silence has made, while it is closed.
create table tripped_rail (
    bank      text collate "C" primary key,
    window_id uuid not null
);
