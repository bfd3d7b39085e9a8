-- What happened to one window. Every statement finds its rows by an index.

-- What an id is the id of, each with the window that it is about.
-- name: know
select 'window' as kind, window_id::text as id from maintenance_window where window_id = $1
union all
select 'window', window_id::text from affected_customer where compensation_id = $1

-- What commands of this id were answered with, whoever sent them.
-- name: answers
with recursive known as (
    (select source from answer order by source limit 1)
    union all
    select (select answer.source from answer where answer.source > known.source order by answer.source limit 1)
    from known
    where known.source is not null
)

select answer.source, answer.id, answer.window_id, answer.type, answer.event_id, answer.occurred_at
from known
join answer on answer.source = known.source and answer.id = $1

-- name: window
select window_id, status, revision, starts_at, ends_at, correlation_id
from maintenance_window
where window_id = $1

-- For whom of these a transfer has used what they got.
-- name: uses
select compensation_id, window_id, granted_at, expires_at
from compensation_use
join affected_customer using (compensation_id)
where compensation_id = any($1::uuid[]) and transfer_id = $2
