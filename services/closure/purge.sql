-- Every statement of the purge: each removes a slice of what is kept no longer. Locks are taken as by everybody:
-- clearances, customers, cases, applications to come back, each by id.

-- Have the slice alone; a worker that cannot leaves it to the one that can.
-- name: claim
select pg_try_advisory_xact_lock(hashtextextended('sluice.closure.purge', 0))

-- The oldest cases that have ended and are of use to nobody, those of loans by a moment of their own.
-- name: choose_cases
select case_id, customer_id
from ended_case
where ended_at < greatest($1::timestamptz, $2::timestamptz) and kept_from < case when subject like 'loan:%' then $2::timestamptz else $1::timestamptz end
order by ended_at
limit $3

-- name: lock_customers
select
from customer
where customer_id = any($1::text[])
order by customer_id
for update

-- name: lock_cases
select
from closing_case
where case_id = any($1::uuid[])
order by case_id
for update

-- name: lock_reopenings
select
from reopening
where case_id = any($1::uuid[])
order by request_id
for update

-- Those of these cases that still are of use to nobody, now that they are locked, and whether all of each can go.
-- name: sort_cases
select case_id, is_over
from ended_case
where case_id = any($1::uuid[]) and kept_from < case when subject like 'loan:%' then $3::timestamptz else $2::timestamptz end

-- Note that of these closings only the closing itself is kept, with whose it was by a hash.
-- name: shorten_cases
update closing_case
set purged_steps = step_count, purged_revision = revision
where case_id = any($1::uuid[])

-- name: purge_steps
delete from case_step
where case_id = any($1::uuid[])

-- name: purge_reopenings
delete from reopening
where case_id = any($1::uuid[])

-- name: purge_cases
delete from closing_case
where case_id = any($1::uuid[])

-- The oldest applications to come back that were refused.
-- name: choose_refused
select request_id, customer_id
from reopening
where status = 'refused' and occurred_at < $1
order by occurred_at
limit $2

-- Remove refused applications, locked in the order of their ids.
-- name: purge_refused
with old as (
    select request_id
    from reopening
    where request_id = any($1::uuid[])
    order by request_id
    for update
)

delete from reopening
using old
where reopening.request_id = old.request_id

-- Remove the oldest answers to commands. Returns how many.
-- name: purge_answers
with old as materialized (
    select source, id
    from answer
    where occurred_at < $1
    order by occurred_at
    limit $2
),

gone as (
    delete from answer
    using old
    where answer.source = old.source and answer.id = old.id
    returning 1
)

select count(*)
from gone

-- Lock a clearance that finished long ago, and of which there is more than the cases that are kept.
-- name: lock_clearance
select clearance_id
from clearance
where
    status = 'finished'
    and occurred_at < $1
    and (
        exists (select from clearance_wallet where clearance_wallet.clearance_id = clearance.clearance_id)
        or exists (select from clearance_report where clearance_report.clearance_id = clearance.clearance_id)
        or not exists (select from closing_case where closing_case.clearance_id = clearance.clearance_id)
    )
order by clearance_id
limit 1
for update

-- Remove the next of a clearance's wallets. Returns how many.
-- name: purge_wallets
with old as materialized (
    select account_id
    from clearance_wallet
    where clearance_id = $1
    order by account_id
    limit $2
    for update
),

noted as (
    update clearance
    set is_purged = true
    where clearance_id = $1 and not is_purged
),

gone as (
    delete from clearance_wallet
    using old
    where clearance_wallet.clearance_id = $1 and clearance_wallet.account_id = old.account_id
    returning 1
)

select count(*)
from gone

-- name: purge_reports
delete from clearance_report
where clearance_id = $1

-- Remove a clearance of which nothing else is left.
-- name: purge_clearance
delete from clearance
where
    clearance_id = $1
    and not exists (select from closing_case where closing_case.clearance_id = clearance.clearance_id)
