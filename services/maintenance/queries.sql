-- Every statement of the maintenance service. A batch runs each at most once, whatever its size.

-- Windows by id, locked in the order of their ids; the columns stand in the order of model.Window.
-- name: load_windows
select
    window_id, content_hash, plan, starts_at, ends_at, correlation_id, status, revision,
    event_type, event_body, occurred_at, answer_by
from maintenance_window
where window_id = any($1::uuid[])
order by window_id
for update

-- Take the timers of these windows that are due, whichever lane they belong to.
-- name: take_due_timers
with due as (
    select kind, subject
    from timer
    where subject = any($1::text[]) and kind = any($2::text[]) and due_at <= $3 and parked_at is null
    order by kind, subject
    for update
)
delete from timer
using due
where timer.kind = due.kind and timer.subject = due.subject
returning timer.lane_group, timer.partition, timer.kind, timer.subject, timer.due_at

-- What commands with these ids were answered with before.
-- name: load_answers
select answer.source, answer.id, content_hash, window_id, type, event_id, body, occurred_at
from answer
join unnest($1::text[], $2::text[]) as asked (source, id)
    on asked.source = answer.source and asked.id = answer.id

-- New windows, and what a batch changed of others.
-- name: upsert_windows
insert into maintenance_window (
    window_id, content_hash, plan, starts_at, ends_at, correlation_id, status, revision,
    event_type, event_body, occurred_at, answer_by
)
select *
from unnest(
    $1::uuid[], $2::bytea[], $3::jsonb[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::integer[],
    $9::text[], $10::bytea[], $11::timestamptz[], $12::timestamptz[]
)
on conflict (window_id) do update
set
    starts_at = excluded.starts_at,
    ends_at = excluded.ends_at,
    status = excluded.status,
    revision = excluded.revision,
    event_type = excluded.event_type,
    event_body = excluded.event_body,
    occurred_at = excluded.occurred_at,
    answer_by = excluded.answer_by

-- What customers say of windows; their last word counts.
-- name: upsert_survey_answers
insert into survey_answer (window_id, customer_id, score, answered_at)
select * from unnest($1::uuid[], $2::text[], $3::smallint[], $4::timestamptz[])
on conflict (window_id, customer_id) do update
set score = excluded.score, answered_at = excluded.answered_at

-- Whose transfers windows held or refused.
-- name: insert_affected
insert into affected_customer (window_id, customer_id, compensation_id)
select * from unnest($1::uuid[], $2::text[], $3::uuid[])
order by 1, 2
on conflict (window_id, customer_id) do nothing

-- The next customers who get something for a window: each once, so many at a time.
-- name: grant_compensation
update affected_customer
set granted_at = $2, expires_at = $3
where
    window_id = $1
    and customer_id in (
        select owed.customer_id
        from affected_customer as owed
        where owed.window_id = $1 and owed.granted_at is null
        order by owed.customer_id
        limit $4
        for update
    )
returning window_id, customer_id, compensation_id, expires_at

-- Count what customers have used of what they got.
-- name: use_compensation
update affected_customer
set used = affected_customer.used + spent.count
from (
    select compensation_id, count(*)::integer as count
    from unnest($1::uuid[]) as named (compensation_id)
    group by compensation_id
) as spent
where affected_customer.compensation_id = spent.compensation_id and affected_customer.granted_at is not null
returning window_id, customer_id, affected_customer.compensation_id, expires_at

-- Note payouts that banks have left without an answer.
-- name: insert_silent_payouts
insert into silent_payout (transfer_id, bank, since)
select * from unnest($1::uuid[], $2::text[], $3::timestamptz[])
order by 1
on conflict (transfer_id) do nothing

-- Forget payouts that were answered, and say which banks answered.
-- name: take_answered_payouts
delete from silent_payout
where transfer_id = any($1::uuid[])
returning bank

-- How many payouts each of these banks has left without an answer, and the window that it made.
-- name: count_silent_payouts
select
    named.bank,
    (select count(*) from silent_payout where silent_payout.bank = named.bank) as payouts,
    tripped_rail.window_id
from unnest($1::text[]) as named (bank)
left join tripped_rail on tripped_rail.bank = named.bank

-- Remember the windows that banks have made.
-- name: insert_tripped_rails
insert into tripped_rail (bank, window_id)
select * from unnest($1::text[], $2::uuid[])
on conflict (bank) do nothing

-- Forget the windows of banks that answer again; what else they owe was asked before.
-- name: take_tripped_rails
with answering as (
    delete from tripped_rail
    where bank = any($1::text[])
    returning window_id, bank
),
forgotten as (
    delete from silent_payout
    where bank in (select answering.bank from answering)
)
select window_id from answering
