-- The runtime's own statements; those of a batch are constant in number, whatever the batch's size.

-- name: claim_lanes
-- Make the session the owner of its lanes; waits for the transaction in which an old owner holds one.
insert into lane (lane_group, partition, owner)
select claimed.lane_group, claimed.partition, $1
from unnest($2::text[], $3::integer[]) as claimed (lane_group, partition)
order by claimed.lane_group, claimed.partition
on conflict on constraint lane_has_one_owner
do update set owner = excluded.owner
returning lane.lane_group, lane.partition, lane.batch_number;

-- name: hold_lanes
-- Count and lock the lanes that the session still owns.
select count(*)
from (
    select
    from lane
    join unnest($2::text[], $3::integer[]) as wanted (lane_group, partition) using (lane_group, partition)
    where lane.owner = $1
    for no key update of lane
) as held;

-- name: advance
-- Fence the batch: number it in each of its lanes after the batch before, move each offset on from its expected
-- place, and forget what was published before. A lane or offset that is missing from the answer is lost, or the
-- batch was committed already and only the answer was lost.
with numbered as (
    update lane
    set batch_number = lane.batch_number + 1
    from unnest($2::text[], $3::integer[], $11::bigint[]) as wanted (lane_group, partition, batch_number)
    where lane.lane_group = wanted.lane_group
        and lane.partition = wanted.partition
        and lane.batch_number = wanted.batch_number
        and lane.owner = $1
    returning lane.lane_group, lane.partition, lane.batch_number
),
moved as (
    update consumed_offset
    set next_offset = wanted.next_offset
    from unnest($4::text[], $5::integer[], $6::bigint[], $7::bigint[])
        as wanted (topic, partition, expected, next_offset)
    where consumed_offset.topic = wanted.topic
        and consumed_offset.partition = wanted.partition
        and consumed_offset.next_offset = wanted.expected
        and wanted.next_offset > wanted.expected
        and consumed_offset.gap_kind is null
    returning 1
),
forgotten as (
    delete from outbox
    using unnest($8::text[], $9::integer[], $10::bigint[]) as published (lane_group, partition, batch_number)
    where outbox.lane_group = published.lane_group
        and outbox.partition = published.partition
        and outbox.batch_number = published.batch_number
)
select
    numbered.lane_group,
    numbered.partition,
    numbered.batch_number,
    (select count(*) from moved) as moved
from numbered;

-- name: load_offsets
-- Read how far each partition was consumed and what gap was found in it.
select
    topic,
    partition,
    topic_id,
    next_offset,
    gap_kind,
    gap_log_end,
    gap_accepted_at
from consumed_offset
join unnest($1::text[], $2::integer[]) as wanted (topic, partition) using (topic, partition);

-- name: all_offsets
-- Read every partition that was ever consumed, for people.
select topic, partition, topic_id, next_offset, gap_kind, gap_size, gap_found_at, gap_accepted_at
from consumed_offset
order by topic, partition;

-- name: start_offset
-- Begin a partition that was never consumed.
insert into consumed_offset (topic, partition, topic_id, next_offset)
values ($1, $2, $3, $4);

-- name: record_gap
-- Remember what is missing in a partition until somebody accepts it.
update consumed_offset
set
    gap_kind = $3,
    gap_size = $4,
    gap_log_start = $5,
    gap_log_end = $6,
    gap_found_at = now(),
    gap_accepted_at = null
where topic = $1 and partition = $2;

-- name: accept_gap
-- Let the partition's owner go on past the gap.
update consumed_offset
set gap_accepted_at = coalesce(gap_accepted_at, now())
where topic = $1 and partition = $2 and gap_kind is not null
returning gap_kind;

-- name: close_gap
-- Go on past an accepted gap.
update consumed_offset
set
    topic_id = $3,
    next_offset = $4,
    gap_kind = null,
    gap_size = null,
    gap_log_start = null,
    gap_log_end = null,
    gap_found_at = null,
    gap_accepted_at = null
where topic = $1 and partition = $2;

-- name: record_outbox
-- Keep what the batch publishes, one row a lane.
insert into outbox (lane_group, partition, batch_number, payload)
select *
from unnest($1::text[], $2::integer[], $3::bigint[], $4::bytea[]);

-- name: load_outbox
-- Read what an earlier owner of the lanes may have left unpublished, oldest first.
select
    lane_group,
    partition,
    batch_number,
    payload
from outbox
join unnest($1::text[], $2::integer[]) as wanted (lane_group, partition) using (lane_group, partition)
order by batch_number;

-- name: forget_outbox
-- Delete what was published.
delete from outbox
using unnest($1::text[], $2::integer[], $3::bigint[]) as published (lane_group, partition, batch_number)
where outbox.lane_group = published.lane_group
    and outbox.partition = published.partition
    and outbox.batch_number = published.batch_number;

-- name: next_timers
-- Read the timers of the lanes that are due and the first that is not, in the order in which they are due.
select
    timer.kind,
    timer.subject,
    timer.lane_group,
    timer.partition,
    timer.due_at
from unnest($1::text[], $2::integer[]) as owned (lane_group, partition)
cross join lateral (
    (
        select *
        from timer
        where timer.lane_group = owned.lane_group
            and timer.partition = owned.partition
            and timer.parked_at is null
            and timer.due_at <= $4
        order by timer.due_at
        limit $3
    )
    union all
    (
        select *
        from timer
        where timer.lane_group = owned.lane_group
            and timer.partition = owned.partition
            and timer.parked_at is null
            and timer.due_at > $4
        order by timer.due_at
        limit 1
    )
) as timer
order by timer.due_at, timer.kind, timer.subject
limit $3;

-- name: take_timers
-- Take timers that are still as they were read; another lane may have moved or cleared one since.
delete from timer
using unnest($1::text[], $2::text[], $3::timestamptz[]) as due (kind, subject, due_at)
where timer.kind = due.kind
    and timer.subject = due.subject
    and timer.due_at = due.due_at
    and timer.parked_at is null
returning timer.kind, timer.subject;

-- name: clear_timers
-- Forget timers, set or not.
delete from timer
using unnest($1::text[], $2::text[]) as cleared (kind, subject)
where timer.kind = cleared.kind and timer.subject = cleared.subject;

-- name: set_timers
-- Set timers, or move them; one that was parked is due again.
insert into timer (kind, subject, lane_group, partition, due_at)
select *
from unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::timestamptz[])
on conflict on constraint timer_is_one_a_kind_and_subject
do update set
    lane_group = excluded.lane_group,
    partition = excluded.partition,
    due_at = excluded.due_at,
    parked_at = null,
    failure = null;

-- name: park_timer
-- Put aside a timer whose handling fails, with the reason.
update timer
set parked_at = $4, failure = $5
where kind = $1 and subject = $2 and due_at = $3;

-- name: count_parked_timers
-- Count the timers that wait for a person.
select count(*) from timer where parked_at is not null;


-- name: load_destroyed_keys
-- Read which keys were destroyed since the tables that held them were rewritten.
select number, table_name from destroyed_key;

-- name: forget_destroyed_keys
-- Forget destroyed keys: nothing of them is left.
delete from destroyed_key where number = any($1::bigint[]);

-- name: claim_scrubbing
-- Have the rewriting alone, until the connection is given back.
select pg_try_advisory_lock(hashtextextended('sluice.scrub', 0));

-- name: next_transaction
-- Read what the next transaction will be.
select (pg_snapshot_xmax(pg_current_snapshot())::xid)::text;

-- name: count_older
-- Count the others that see rows as they were before a transaction.
select count(*)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and age(backend_xmin) > age($1::text::xid);

-- name: list_rewrites
-- Return for each table the statement that rewrites it, and whether we may: whoever may not is only warned.
select format('vacuum (full) %I', name) as statement, has_table_privilege(format('%I', name), 'maintain') as is_ours
from unnest($1::text[]) as held (name)
order by name;

-- name: be_patient
-- Take as long as a rewriting takes, but keep nobody waiting behind us for a lock for long; an automatic vacuum gives way
-- after a second (`deadlock_timeout`).
select set_config('transaction_timeout', '0', false), set_config('lock_timeout', '2s', false);

-- name: leave_log_segment
-- Leave the segment of the log that is written to, so that a checkpoint can delete it.
select pg_switch_wal();


-- name: load_pause
-- Read whether a person has paused the service.
select who, why, since from pause;

-- name: begin_pause
-- Pause the service.
insert into pause (who, why)
values ($1, $2)
on conflict (is_on) do nothing
returning since;

-- name: end_pause
-- Let the service go on.
delete from pause returning who, why, since;
