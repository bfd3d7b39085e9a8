-- What happened to one case, application or customer in the closing service. Every statement finds its rows by an index.

-- What an id is the id of.
-- name: know
select 'case' as kind, case_id::text as id from closing_case where case_id = $1
union all
select 'reopening', request_id::text from reopening where request_id = $1
union all
select 'clearance', clearance_id::text from clearance where clearance_id = $1

-- What commands of this id were answered with, whoever sent them.
-- name: answers
with recursive known as (
    (select source from answer order by source limit 1)
    union all
    select (select answer.source from answer where answer.source > known.source order by answer.source limit 1)
    from known
    where known.source is not null
)

select answer.source, answer.id, answer.type, answer.event_id, answer.subject, answer.body, answer.occurred_at
from known
join answer on answer.source = known.source and answer.id = $1

-- name: case
select
    case_id, subject, customer_id, clearance_id, correlation_id, traceparent, status, payouts, currency, received_at,
    ended_at, erased_by
from closing_case
where case_id = $1

-- name: reopening
select request_id, subject, customer_id, case_id, correlation_id, status, event_type, occurred_at, received_at
from reopening
where request_id = $1

-- name: clearance
select clearance_id, cause, status, wallets, begun, correlation_id, event_type, occurred_at, revision
from clearance
where clearance_id = $1

-- A customer's cases, the latest first.
-- name: cases_of_customer
select case_id
from closing_case
where customer_id = $1
order by received_at desc
limit $2

-- name: wallets_of_customer
select account_id
from wallet
where customer_id = $1
order by account_id
limit $2

-- name: customer
select customer_id, flagged_until, erased_at
from customer
where customer_id = $1
