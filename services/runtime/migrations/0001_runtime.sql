-- What the runtime keeps beside a service's own tables: who owns a lane, how far each partition is consumed,
-- what is still to be published, and what is to be done later.

create table lane (
    lane_group text not null,
    partition integer not null constraint lane_partition_is_a_number check (partition >= 0),
    owner uuid not null,
    batch_number bigint not null default 0,
    constraint lane_has_one_owner primary key (lane_group, partition)
) with (fillfactor = 50);

create table consumed_offset (
    topic text not null,
    partition integer not null,
    topic_id text not null,
    next_offset bigint not null constraint consumed_offset_is_not_negative check (next_offset >= 0),
    gap_kind text constraint gap_kind_is_known check (gap_kind in ('retention', 'recreated', 'beyond_end')),
    gap_size bigint,
    gap_log_start bigint,
    gap_log_end bigint,
    gap_found_at timestamptz,
    gap_accepted_at timestamptz,
    constraint consumed_offset_is_one_a_partition primary key (topic, partition),
    constraint gap_is_whole check (
        (gap_kind is null) = (gap_found_at is null)
        and (gap_kind is null) = (gap_log_start is null)
        and (gap_kind is null) = (gap_log_end is null)
    ),
    constraint only_a_gap_is_accepted check (gap_accepted_at is null or gap_kind is not null)
) with (fillfactor = 50);

create table outbox (
    lane_group text not null,
    partition integer not null,
    batch_number bigint not null,
    payload bytea not null,
    created_at timestamptz not null default now(),
    constraint outbox_has_one_row_a_batch_and_lane primary key (lane_group, partition, batch_number)
);
-- The payload is compressed already.
alter table outbox alter column payload set storage external;

create table timer (
    kind text not null,
    subject text not null,
    lane_group text not null,
    partition integer not null,
    due_at timestamptz not null,
    parked_at timestamptz,
    failure text,
    constraint timer_is_one_a_kind_and_subject primary key (kind, subject),
    constraint a_parked_timer_says_why check ((parked_at is null) = (failure is null))
);
create index timer_next_of_lane on timer (lane_group, partition, due_at) where parked_at is null;
create index timer_parked on timer (parked_at) where parked_at is not null;
