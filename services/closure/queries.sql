-- Every statement about cases. A batch costs a constant number of them; locks are taken in one order: timers,
-- clearances, customers, names of what nobody knows, cases, applications to come back, each by id.

-- Whom these cases, wallets, loans, closings and applications to come back belong to.
-- name: find_customers
select customer_id from closing_case where case_id = any($1::uuid[]) and customer_id is not null
union
select customer_id from wallet where account_id = any($2::text[])
union
select customer_id from position where obligation_id = any($3::text[])
union
select customer_id from closing_case where subject = any($4::text[]) and status = 'closed' and customer_id is not null
union
select customer_id from reopening where request_id = any($5::uuid[]) and customer_id is not null

-- What those of these cases are about that were nobody's when they were last decided; only read, because customers are
-- locked before cases.
-- name: find_unowned
select subject
from closing_case
where case_id = any($1::uuid[]) and customer_id is null and ended_at is null

-- Have a row of each customer to lock.
-- name: insert_customers
insert into customer (customer_id)
select id from unnest($1::text[]) as asked (id)
where not exists (select from customer where customer.customer_id = asked.id)
order by id
on conflict do nothing

-- name: lock_customers
select
    customer_id, name_hash, id_number_hash, phone_hash, phone_verified, flags, erase_wanted, erased_at
from customer
where customer_id = any($1::text[])
order by customer_id
for update

-- The keys of cases; they are locked, so that nobody else gives them keys.
-- name: load_case_keys
select case_id, wrapped_key
from case_key
where case_id = any($1::uuid[])

-- The wallets of these customers, and these wallets themselves.
-- name: load_wallets
select account_id, customer_id, currency, status, version
from wallet
where customer_id = any($1::text[])
union
select account_id, customer_id, currency, status, version
from wallet
where account_id = any($2::text[])

-- What these customers owe, and these loans.
-- name: load_positions
select
    obligation_id, customer_id, account, kind, principal_minor, interest_minor, penalty_minor, currency, status
from position
where customer_id = any($1::text[])
union
select
    obligation_id, customer_id, account, kind, principal_minor, interest_minor, penalty_minor, currency, status
from position
where obligation_id = any($2::text[])

-- Have one transaction at a time decide about wallets and loans of which nobody knows whose they are.
-- name: lock_subjects
select pg_advisory_xact_lock(hashtextextended(subject, 0))
from (select subject from unnest($1::text[]) as asked (subject) order by subject) as ordered

-- These cases, those of these customers that have not ended or not forgotten them, those about these subjects that have
-- not ended, and the closings of others and of these applications to come back; in the order of model.Case.
-- name: load_cases
select
    case_id, content_hash, subject, received_at, customer_id, clearance_id, correlation_id, traceparent, status,
    step_count, revision, event_type, event_body, occurred_at, expires_at, accepts_fee, claimed_balance_minor,
    attempts, review_of, approved_by, reports, currency, start_minor, balance_minor, fee_minor, payouts,
    payout_minor, paid_minor, paid_numbers, fee_paid_minor, fee_paid_number, refusal, erased_by, receipt_sha256,
    erasure, id_number_hash, ended_at, sealed, reported, reviewed_minor
from closing_case
where case_id in (
    select case_id from closing_case where case_id = any($1::uuid[])
    union
    select case_id from closing_case where customer_id = any($2::text[]) and ended_at is null
    union
    select case_id from closing_case where customer_id = any($2::text[]) and erasure = 'deferred'
    union
    select case_id from closing_case where subject = any($3::text[]) and ended_at is null
    union
    select case_id from closing_case where subject = any($4::text[]) and status = 'closed'
    union
    select case_id from reopening where request_id = any($5::uuid[])
)
order by case_id
for update

-- What commands with these ids were answered with before.
-- name: load_answers
select
    answer.source, answer.id, content_hash, message_key, type, event_id, subject, body, occurred_at, correlation_id,
    traceparent
from answer
join unnest($1::text[], $2::text[]) as asked (source, id)
    on asked.source = answer.source and asked.id = answer.id

-- New cases, and what a batch changed of others.
-- name: upsert_cases
insert into closing_case (
    case_id, content_hash, subject, received_at, customer_id, clearance_id, correlation_id, traceparent, status,
    step_count, revision, event_type, event_body, occurred_at, expires_at, accepts_fee, claimed_balance_minor,
    attempts, review_of, approved_by, reports, currency, start_minor, balance_minor, fee_minor, payouts, payout_minor,
    paid_minor, paid_numbers, fee_paid_minor, fee_paid_number, refusal, erased_by, receipt_sha256, erasure,
    id_number_hash, ended_at, sealed, reported, reviewed_minor
)
select *
from unnest(
    $1::uuid[], $2::bytea[], $3::text[], $4::timestamptz[], $5::text[], $6::uuid[], $7::text[], $8::text[],
    $9::text[], $10::integer[], $11::integer[], $12::text[], $13::bytea[], $14::timestamptz[], $15::timestamptz[],
    $16::boolean[], $17::bigint[], $18::integer[], $19::text[], $20::jsonb[], $21::integer[], $22::text[],
    $23::bigint[], $24::bigint[], $25::bigint[], $26::integer[], $27::bigint[], $28::bigint[], $29::jsonb[],
    $30::bigint[], $31::integer[], $32::text[], $33::jsonb[], $34::text[], $35::text[], $36::bytea[],
    $37::timestamptz[], $38::bytea[], $39::jsonb[], $40::bigint[]
)
order by 1
on conflict (case_id) do update
set
    customer_id = excluded.customer_id,
    status = excluded.status,
    step_count = excluded.step_count,
    revision = excluded.revision,
    event_type = excluded.event_type,
    event_body = excluded.event_body,
    occurred_at = excluded.occurred_at,
    expires_at = excluded.expires_at,
    claimed_balance_minor = excluded.claimed_balance_minor,
    attempts = excluded.attempts,
    review_of = excluded.review_of,
    approved_by = excluded.approved_by,
    reports = excluded.reports,
    currency = excluded.currency,
    balance_minor = excluded.balance_minor,
    fee_minor = excluded.fee_minor,
    payouts = excluded.payouts,
    payout_minor = excluded.payout_minor,
    paid_minor = excluded.paid_minor,
    paid_numbers = excluded.paid_numbers,
    fee_paid_minor = excluded.fee_paid_minor,
    fee_paid_number = excluded.fee_paid_number,
    refusal = excluded.refusal,
    erased_by = excluded.erased_by,
    receipt_sha256 = excluded.receipt_sha256,
    erasure = excluded.erasure,
    id_number_hash = excluded.id_number_hash,
    ended_at = excluded.ended_at,
    sealed = excluded.sealed,
    reported = excluded.reported,
    reviewed_minor = excluded.reviewed_minor

-- The keys of these cases as they are now; without one, it is destroyed.
-- name: move_case_keys
with new (case_id, wrapped_key) as (
    select * from unnest($1::uuid[], $2::bytea[])
),

destroyed as (
    delete from case_key
    using new
    where case_key.case_id = new.case_id and new.wrapped_key is null
)

insert into case_key (case_id, wrapped_key)
select case_id, wrapped_key
from new
where wrapped_key is not null
on conflict (case_id) do nothing

-- Customers as they are now.
-- name: update_customers
update customer
set
    name_hash = new.name_hash,
    id_number_hash = new.id_number_hash,
    phone_hash = new.phone_hash,
    phone_verified = new.phone_verified,
    flags = new.flags::jsonb,
    flagged_until = new.flagged_until,
    erase_wanted = new.erase_wanted,
    erased_at = new.erased_at
from unnest(
    $1::text[], $2::bytea[], $3::bytea[], $4::bytea[], $5::boolean[], $6::text[], $7::timestamptz[], $8::text[],
    $9::timestamptz[]
) as new (
    customer_id, name_hash, id_number_hash, phone_hash, phone_verified, flags, flagged_until, erase_wanted, erased_at
)
where customer.customer_id = new.customer_id

-- Clear what applicants of these customers said; their key is gone.
-- name: clear_applications
with said as (
    select case_id
    from closing_case
    where customer_id = any($1::text[]) and sealed is not null
    order by case_id
    for update
)
update closing_case
set sealed = null
from said
where closing_case.case_id = said.case_id

-- Keep wallets as they were last published.
-- name: upsert_wallets
insert into wallet (account_id, customer_id, currency, status, version)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
order by 1
on conflict (account_id) do update
set
    customer_id = excluded.customer_id,
    currency = excluded.currency,
    status = excluded.status,
    version = excluded.version
where wallet.version < excluded.version

-- Keep what customers owe as it was last published.
-- name: upsert_positions
insert into position (
    obligation_id, customer_id, account, kind, principal_minor, interest_minor, penalty_minor, currency, status
)
select *
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[]
)
order by 1
on conflict (obligation_id) do update
set
    customer_id = excluded.customer_id,
    account = excluded.account,
    kind = excluded.kind,
    principal_minor = excluded.principal_minor,
    interest_minor = excluded.interest_minor,
    penalty_minor = excluded.penalty_minor,
    currency = excluded.currency,
    status = excluded.status

-- Forget positions that are published no more.
-- name: delete_positions
with gone as (
    select obligation_id
    from position
    where obligation_id = any($1::text[])
    order by obligation_id
    for update
)
delete from position
using gone
where position.obligation_id = gone.obligation_id

-- Which of these customers have a case that waits until everybody has forgotten them.
-- name: find_being_erased
select distinct customer_id
from closing_case
where
    customer_id = any($1::text[])
    and (status = 'erasing' or (erasure = 'deferred' and status = 'closed' and refusal = 'forgetting'))

-- Of which of these customers something sealed is left.
-- name: find_sealed
select distinct customer_id
from closing_case
where customer_id = any($1::text[]) and sealed is not null
