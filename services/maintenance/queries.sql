-- Every statement of the maintenance service. A batch costs a constant number of them; locks are taken in one order:
-- the turn at customers, payouts that banks have answered, timers, windows, banks, customers whom windows owe something.
-- What is due was taken before, and takes no turn.

-- Let nobody be erased until this transaction has ended.
-- name: share_customers
select pg_advisory_xact_lock_shared('erased_customer'::regclass::integer, 0)

-- Wait until no transaction writes down customers, and let none begin to.
-- name: take_customers
select pg_advisory_xact_lock('erased_customer'::regclass::integer, 0)

-- Windows by id, as they are now; the columns stand in the order of model.Window.
-- name: read_windows
select
    window_id, content_hash, plan, starts_at, ends_at, correlation_id, status, revision,
    event_type, event_body, occurred_at, answer_by, traceparent
from maintenance_window
where window_id = any($1::uuid[])

-- The same, locked in the order of their ids.
-- name: load_windows
select
    window_id, content_hash, plan, starts_at, ends_at, correlation_id, status, revision,
    event_type, event_body, occurred_at, answer_by, traceparent
from maintenance_window
where window_id = any($1::uuid[])
order by window_id
for update

-- Lock the timers of these windows, whichever lanes they belong to, and take those that are due.
-- name: take_due_timers
with locked as (
    select kind, subject, due_at
    from timer
    where subject = any($1::text[]) and kind = any($2::text[]) and parked_at is null
    order by kind, subject
    for update
)
delete from timer
using locked
where timer.kind = locked.kind and timer.subject = locked.subject and locked.due_at <= $3
returning timer.kind, timer.subject, timer.due_at

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
    event_type, event_body, occurred_at, answer_by, traceparent
)
select *
from unnest(
    $1::uuid[], $2::bytea[], $3::jsonb[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::integer[],
    $9::text[], $10::bytea[], $11::timestamptz[], $12::timestamptz[], $13::text[]
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

-- What customers say of windows; their last word counts, and nothing of who has just been erased.
-- name: upsert_survey_answers
insert into survey_answer (window_id, customer_id, score, answered_at)
select *
from unnest($1::uuid[], $2::text[], $3::smallint[], $4::timestamptz[]) as said (window_id, customer_id, score, at)
where not exists (select from erased_customer where erased_customer.customer_id = said.customer_id)
order by 1, 2
on conflict (window_id, customer_id) do update
set score = excluded.score, answered_at = excluded.answered_at

-- Whose transfers windows held or refused, and when; not of who was erased since.
-- name: insert_affected
insert into affected_customer (window_id, customer_id, compensation_id)
select stopped.window_id, stopped.customer_id, stopped.compensation_id
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[])
    as stopped (window_id, customer_id, compensation_id, at)
where not exists (
    select from erased_customer
    where erased_customer.customer_id = stopped.customer_id and erased_customer.erased_at >= stopped.at
)
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

-- Count what customers have used of what they got, each transfer once, and say which are new.
-- name: use_compensation
with noted as (
    insert into compensation_use (compensation_id, transfer_id)
    select named.compensation_id, named.transfer_id
    from unnest($1::uuid[], $2::uuid[]) as named (compensation_id, transfer_id)
    where exists (
        select from affected_customer
        where affected_customer.compensation_id = named.compensation_id and affected_customer.granted_at is not null
    )
    order by 1, 2
    on conflict (compensation_id, transfer_id) do nothing
    returning compensation_id, transfer_id
),
spent as (
    select compensation_id, count(*)::integer as count, array_agg(transfer_id) as transfers
    from noted
    group by compensation_id
),
locked as (
    select affected_customer.window_id, affected_customer.customer_id, spent.count, spent.transfers
    from affected_customer
    join spent on spent.compensation_id = affected_customer.compensation_id
    where affected_customer.granted_at is not null
    order by affected_customer.window_id, affected_customer.customer_id
    for update of affected_customer
)
update affected_customer
set used = affected_customer.used + locked.count
from locked
where affected_customer.window_id = locked.window_id and affected_customer.customer_id = locked.customer_id
returning affected_customer.window_id, affected_customer.customer_id, compensation_id, expires_at, locked.transfers

-- Note payouts that banks have left without an answer.
-- name: insert_silent_payouts
insert into silent_payout (transfer_id, bank, since)
select * from unnest($1::uuid[], $2::text[], $3::timestamptz[])
order by 1
on conflict (transfer_id) do nothing

-- Forget payouts that were answered, and say which banks answered.
-- name: take_answered_payouts
with answered as (
    select transfer_id
    from silent_payout
    where transfer_id = any($1::uuid[])
    order by transfer_id
    for update
)
delete from silent_payout
using answered
where silent_payout.transfer_id = answered.transfer_id
returning bank

-- The banks among these that have left so many payouts without an answer since a moment.
-- name: find_silent_banks
select bank
from silent_payout
where bank = any($1::text[]) and since > $2
group by bank
having count(*) >= $3

-- Have banks make these windows, unless they have one that is not over; say which do. Who comes at the same moment
-- waits until it is known.
-- name: claim_rails
insert into tripped_rail as known (bank, window_id)
select * from unnest($1::text[], $2::uuid[])
order by 1
on conflict (bank) do update
set window_id = excluded.window_id
where exists (
    select from maintenance_window
    where maintenance_window.window_id = known.window_id and maintenance_window.status in ('ended', 'cancelled')
)
returning bank

-- Which windows these banks have made.
-- name: load_rails
select window_id
from tripped_rail
where bank = any($1::text[])

-- Forget the windows of banks that answer again; what else they owe was asked before. Banks are locked in the order of
-- their names, as where they are claimed. A payout that somebody has is answered just now: waiting for it here could be
-- in a circle.
-- name: release_rails
with answering as materialized (
    select bank
    from tripped_rail
    where bank = any($1::text[])
    order by bank
    for update
),
released as (
    delete from tripped_rail
    using answering
    where tripped_rail.bank = answering.bank
),
silent as (
    select transfer_id
    from silent_payout
    where bank in (select answering.bank from answering)
    for update skip locked
)
delete from silent_payout
using silent
where silent_payout.transfer_id = silent.transfer_id

-- These customers are owed nothing any more. This waits for who gives them something just now; the next statement sees
-- what that was.
-- name: delete_owed
with owed as (
    select window_id, customer_id
    from affected_customer
    where customer_id = any($1::text[]) and granted_at is null
    order by window_id, customer_id
    for update
)
delete from affected_customer
using owed
where affected_customer.window_id = owed.window_id and affected_customer.customer_id = owed.customer_id

-- Keep what these customers were given and have used, under a new number that tells nobody whose it was.
-- name: anonymise_granted
with given as materialized (
    select compensation_id, gen_random_uuid() as new_id
    from affected_customer
    where customer_id = any($1::text[])
    order by window_id, customer_id
    for update
),
used as (
    update compensation_use
    set compensation_id = given.new_id
    from given
    where compensation_use.compensation_id = given.compensation_id
)
update affected_customer
set customer_id = null, compensation_id = given.new_id
from given
where affected_customer.compensation_id = given.compensation_id

-- Keep how these customers found windows, and not who they are.
-- name: anonymise_survey_answers
update survey_answer
set customer_id = null
where customer_id = any($1::text[])

-- Remember who was erased just now.
-- name: upsert_erased
insert into erased_customer (customer_id, erased_at)
select customer_id, $2 from unnest($1::text[]) as gone (customer_id)
order by customer_id
on conflict (customer_id) do update
set erased_at = excluded.erased_at

-- Forget that these customers were erased.
-- name: delete_erased
delete from erased_customer
where customer_id = any($1::text[])
