-- What became of dead letters.

-- One replay at a time, until the connection ends.
-- name: try_lock
select pg_try_advisory_lock(hashtextextended('sluice.dlq', 0))

-- name: load_marks
select topic_id, partition, record_offset, state, target, target_partition, target_end,
    clock_timestamp() - changed_at as age
from unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) as asked (topic_id, partition, first, last)
join handled_letter using (topic_id, partition)
where record_offset between first and last

-- name: record_marks
insert into handled_letter (
    topic_id, partition, record_offset, letter_id, state, act_id, target, target_partition, target_end, changed_at
)
select *, now()
from unnest(
    $1::text[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::integer[], $9::bigint[]
)
on conflict (topic_id, partition, record_offset) do update
set state = excluded.state,
    act_id = excluded.act_id,
    target = excluded.target,
    target_partition = excluded.target_partition,
    target_end = excluded.target_end,
    changed_at = excluded.changed_at

-- name: finish_replays
update handled_letter
set state = 'replayed', changed_at = now()
from unnest($1::text[], $2::integer[], $3::bigint[]) as done (topic_id, partition, record_offset)
where handled_letter.topic_id = done.topic_id
  and handled_letter.partition = done.partition
  and handled_letter.record_offset = done.record_offset
  and handled_letter.state = 'replaying'

-- What was to be replayed and was not written waits again.
-- name: forget_replays
delete from handled_letter
using unnest($1::text[], $2::integer[], $3::bigint[]) as undone (topic_id, partition, record_offset)
where handled_letter.topic_id = undone.topic_id
  and handled_letter.partition = undone.partition
  and handled_letter.record_offset = undone.record_offset
  and handled_letter.state = 'replaying'

-- What was done a week ago or earlier about letters that are gone, by retention or with their topic.
-- name: forget_gone
delete from handled_letter
where changed_at < now() - interval '7 days'
  and not exists (
      select
      from unnest($1::text[], $2::integer[], $3::bigint[]) as log (topic_id, partition, first_offset)
      where log.topic_id = handled_letter.topic_id
        and log.partition = handled_letter.partition
        and log.first_offset <= handled_letter.record_offset
  )
