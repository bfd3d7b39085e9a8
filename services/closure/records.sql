-- What people ask of closings. Nothing here changes anything, and nothing here is what an applicant said.

-- Cases, the latest to be received first; since when and why each stands where it does, and when it looks again.
-- name: list_cases
with listed as (
    select *
    from closing_case
    where ($1::uuid is null or case_id = $1) and (cardinality($2::text[]) = 0 or status = any($2))
        and ($4::uuid is null or clearance_id = $4)
    order by received_at desc, case_id
    limit $3
)
select
    listed.case_id,
    listed.subject,
    listed.customer_id,
    listed.clearance_id,
    listed.status,
    coalesce(step.since, listed.ended_at) as since,
    step.why,
    listed.received_at,
    listed.ended_at,
    waiting.next_at,
    listed.currency,
    listed.balance_minor,
    listed.fee_minor,
    listed.payout_minor,
    listed.paid_minor,
    listed.fee_paid_minor,
    listed.payouts,
    listed.attempts,
    listed.refusal,
    listed.review_of,
    listed.approved_by,
    listed.erased_by,
    listed.erasure,
    listed.receipt_sha256,
    listed.revision
from listed
left join lateral (
    select occurred_at as since, why
    from case_step
    where case_step.case_id = listed.case_id and previous is distinct from case_step.status
    order by number desc
    limit 1
) as step on true
left join lateral (
    select min(due_at) as next_at
    from timer
    where
        kind in ('expire', 'look', 'retry')
        and subject = listed.case_id::text
        and parked_at is null
        and listed.ended_at is null
) as waiting on true
order by listed.received_at desc, listed.case_id

-- Every step of a case, in order.
-- name: list_steps
select number, occurred_at, previous, status, why, revision, event_type as type, event_body
from case_step
where case_id = $1
order by number

-- Applications to come back, the latest first: those of a closing, or all that wait for somebody.
-- name: list_reopenings
select request_id, subject, customer_id, case_id, status, received_at, occurred_at as since, expires_at, event_body
from reopening
where case_id = $1 or ($1::uuid is null and status in ('assessing', 'reopening'))
order by received_at desc, request_id
limit $2

-- What a command was answered with.
-- name: find_answer
select type, body
from answer
where source = $1 and id = $2

-- Which of these customers are erased, and not known again.
-- name: list_erased
select customer_id
from customer
where
    customer_id = any($1::text[])
    and erased_at is not null
    and name_hash is null
    and not exists (select from customer_key where customer_key.customer_id = customer.customer_id)

-- Closed cases that have paid out, by their ids, with what they count as paid.
-- name: list_paid
select case_id, subject, paid_minor + fee_paid_minor as counted_minor, payouts
from closing_case
where case_id > $1 and status = 'closed' and payouts > 0
order by case_id
limit $2

-- name: count_paid
select case_id, paid_minor + fee_paid_minor as counted_minor
from closing_case
where case_id = any($1::uuid[])

-- The audit. Each of the following returns the rows that break one rule: none, when all is well.

-- name: count_audited
select count(*) from closing_case

-- A case's steps are numbered from 1, or after those that the purge removed, without a gap.
-- name: audit_steps
with counted as (
    select case_id, count(*) as steps, max(number) as last_number
    from case_step
    group by case_id
)
select closing_case.case_id, step_count, coalesce(steps, 0) as steps
from closing_case
left join counted on counted.case_id = closing_case.case_id
where step_count <> purged_steps + coalesce(steps, 0) or step_count <> coalesce(last_number, purged_steps)
limit 100

-- So are its events, in the order of the steps that they stand in.
-- name: audit_events
with told as (
    select
        case_step.case_id, case_step.revision,
        lag(case_step.revision, 1, purged_revision) over (partition by case_step.case_id order by number) as before
    from case_step
    join closing_case using (case_id)
    where case_step.revision is not null
),
counted as (
    select case_id, max(revision) as last_revision, bool_and(revision = before + 1) as is_in_order
    from told
    group by case_id
)
select closing_case.case_id, closing_case.revision, coalesce(last_revision, purged_revision) as events
from closing_case
left join counted on counted.case_id = closing_case.case_id
where closing_case.revision <> coalesce(last_revision, purged_revision) or not is_in_order
limit 100

-- Each step begins where the one before has ended, and the last ended where the case is.
-- name: audit_last_steps
select step.case_id, step.number, step.previous, step.status, closing_case.status as stands
from case_step as step
join closing_case on closing_case.case_id = step.case_id
left join case_step as before on before.case_id = step.case_id and before.number = step.number - 1
where
    (step.previous is distinct from before.status and step.number > purged_steps + 1)
    or (step.number = closing_case.step_count and step.status <> closing_case.status)
limit 100

-- Whoever waits for a customer, or looks again by themselves, is called at a moment.
-- name: audit_timers
with waiting as (
    select
        case_id, status, expires_at, refusal,
        case
            when status in ('documents_required', 'approved') then 'expire'
            when status = 'obligations' or (status = 'received' and subject like 'loan:%') then 'look'
            when status = 'payout_stopped' and refusal in ('maintenance', 'account_restricted', 'risk_restricted')
                then 'retry'
        end as awaited
    from closing_case
    where ended_at is null
)
select case_id, status, expires_at, refusal, awaited
from waiting
where
    awaited is not null
    and not exists (
        select from timer
        where timer.kind = waiting.awaited and timer.subject = waiting.case_id::text
    )
limit 100

-- What counts as paid was sent before.
-- name: audit_payouts
with sent as (
    select case_id, sum((convert_from(event_body, 'UTF8')::jsonb ->> 'payout_minor')::bigint) as sent_minor
    from case_step
    where event_type = 'closure.paying_out'
    group by case_id
)
select closing_case.case_id, paid_minor, coalesce(sent_minor, 0)::bigint as sent_minor
from closing_case
left join sent on sent.case_id = closing_case.case_id
where purged_steps = 0 and paid_minor > coalesce(sent_minor, 0)
limit 100

-- name: audit_open_cases
select subject, count(*) as cases
from closing_case
where ended_at is null
group by subject
having count(*) > 1
limit 100

-- A wallet is closed empty, and its receipt says what was paid; one whose payout came back says so.
-- name: audit_closed
with receipt as (
    select
        case_id,
        ((convert_from(event_body, 'UTF8')::jsonb -> 'receipt') ->> 'payout_minor')::bigint as payout_minor,
        ((convert_from(event_body, 'UTF8')::jsonb -> 'receipt') ->> 'fee_minor')::bigint as fee_minor
    from case_step
    where event_type = 'closure.erasing' or (event_type = 'closure.closed' and status = 'closed')
)
select closing_case.case_id, balance_minor, paid_minor, fee_paid_minor, receipt.payout_minor, receipt.fee_minor
from closing_case
join receipt on receipt.case_id = closing_case.case_id and receipt.payout_minor is not null
where
    status = 'closed'
    and (
        (subject like 'wallet:%' and balance_minor <> 0)
        or fee_paid_minor <> receipt.fee_minor
        or paid_minor <> receipt.payout_minor
    )
    and not exists (
        select from case_step
        where case_step.case_id = closing_case.case_id and event_type = 'closure.discrepancy'
    )
limit 100

-- Of who is erased no hash, no key and nothing sealed is left, but of an application that came later.
-- name: audit_erased
select customer.customer_id, customer.erased_at
from customer
where
    erased_at is not null
    and (
        name_hash is not null
        or exists (
            select from closing_case
            where
                closing_case.customer_id = customer.customer_id
                and sealed is not null
                and received_at < customer.erased_at
        )
        or (
            exists (select from customer_key where customer_key.customer_id = customer.customer_id)
            and not exists (
                select from closing_case
                where closing_case.customer_id = customer.customer_id and received_at >= customer.erased_at
            )
        )
    )
limit 100

-- name: audit_unknown
select case_id, status
from closing_case
left join case_key using (case_id)
where customer_id is null and ended_at is not null and (sealed is not null or wrapped_key is not null)
limit 100

-- Once a case's customer is known, what is sealed is sealed under their key.
-- name: audit_case_keys
select case_id, customer_id
from case_key
join closing_case using (case_id)
where customer_id is not null
limit 100

-- What a clearance said last counts each of its wallets once, and each unit of what they held.
-- name: audit_clearance_sums
with told as (
    select clearance_id, convert_from(event_body, 'UTF8')::jsonb as body
    from clearance
    where event_type in ('clearance.progress', 'clearance.finished')
),
statement as (
    select
        clearance_id,
        'wallets' as what,
        (body ->> 'wallets')::bigint as was_there,
        (body ->> 'cleared')::bigint + (body ->> 'paid')::bigint + (body ->> 'waiting')::bigint
        + (body ->> 'blocked')::bigint + coalesce((body ->> 'pending')::bigint, 0) as counted
    from told
    union all
    select
        clearance_id,
        money ->> 'currency',
        (money ->> 'total_minor')::bigint,
        (money ->> 'paid_out_minor')::bigint + (money ->> 'fee_minor')::bigint + (money ->> 'waiting_minor')::bigint
        + (money ->> 'blocked_minor')::bigint + (money ->> 'moved_minor')::bigint
    from told
    cross join jsonb_array_elements(body -> 'money') as money
)
select clearance_id, what, was_there, counted
from statement
where was_there <> counted
limit 100

-- What it says was there is what was reported of its wallets, in each currency.
-- name: audit_clearance_totals
with found as (
    select
        clearance_id,
        coalesce(currency, 'none') as currency,
        count(*) as wallets,
        case when currency is not null then sum(posted_minor)::bigint end as total_minor
    from clearance_wallet
    where status <> 'closed'
    group by clearance_id, currency
),
told as (
    select
        clearance.clearance_id,
        money ->> 'currency' as currency,
        (money ->> 'total_minor')::bigint as told_minor
    from clearance
    cross join jsonb_array_elements(convert_from(event_body, 'UTF8')::jsonb -> 'money') as money
    where event_type in ('clearance.progress', 'clearance.finished')
),
counted as (
    select clearance_id, sum(wallets)::bigint as wallets
    from found
    group by clearance_id
)
select clearance.clearance_id, currency, total_minor, told_minor
from found
full join told using (clearance_id, currency)
join clearance on clearance.clearance_id = coalesce(found.clearance_id, told.clearance_id)
where
    total_minor is distinct from told_minor
    and not clearance.is_purged
    and (clearance.status = 'finished' or clearance.clearance_id in (select told.clearance_id from told))
union all
select clearance.clearance_id, null, clearance.wallets, coalesce(counted.wallets, 0)
from clearance
left join counted on counted.clearance_id = clearance.clearance_id
where
    clearance.status in ('running', 'finished')
    and not clearance.is_purged
    and clearance.wallets <> coalesce(counted.wallets, 0)
limit 100

-- The case that a clearance has for a wallet is about that wallet; one of its own began with what was reported of it.
-- name: audit_clearance_cases
select
    found.clearance_id, account_id, found.case_id, is_own, closing_case.clearance_id as begun_by, subject,
    posted_minor, start_minor
from clearance_wallet as found
join clearance on clearance.clearance_id = found.clearance_id
left join closing_case on closing_case.case_id = found.case_id
where
    found.case_id is not null
    and (
        -- Of one that is finished some may be kept no longer.
        (closing_case.case_id is null and clearance.status <> 'finished')
        or subject <> account_id
        or (
            closing_case.case_id is not null
            and is_own <> (closing_case.clearance_id is not distinct from found.clearance_id)
        )
        or (is_own and (start_minor <> posted_minor or closing_case.customer_id <> found.customer_id))
    )
union all
select closing_case.clearance_id, account_id, closing_case.case_id, is_own, null, subject, posted_minor, start_minor
from closing_case
left join clearance_wallet as found
    on found.clearance_id = closing_case.clearance_id and found.case_id = closing_case.case_id
where
    closing_case.clearance_id is not null
    and found.case_id is null
    and not exists (select from clearance where clearance.clearance_id = closing_case.clearance_id and is_purged)
limit 100

-- One that is finished has left no wallet out, and what it counts as cleared or paid is closed.
-- name: audit_clearance_ends
with stands as (
    select
        found.clearance_id,
        count(*) filter (where found.case_id is null and found.status <> 'unknown') as left_out,
        count(*) filter (
            where closing_case.status in ('erasing', 'closed') or (closing_case.case_id is null and found.case_id is not null)
        ) as closed
    from clearance_wallet as found
    left join closing_case on closing_case.case_id = found.case_id
    where found.status <> 'closed'
    group by found.clearance_id
),
told as (
    select
        clearance_id,
        (convert_from(event_body, 'UTF8')::jsonb ->> 'cleared')::bigint
        + (convert_from(event_body, 'UTF8')::jsonb ->> 'paid')::bigint as told
    from clearance
    where status = 'finished' and not dry_run and not is_purged
)
select told.clearance_id, told.told, closed, left_out
from told
join stands on stands.clearance_id = told.clearance_id
where left_out > 0 or closed < told.told
limit 100

-- Who is cleared a second time, after coming back, is so by a new case.
-- name: audit_cleared_once
with again as (
    select account_id
    from clearance_wallet
    where is_own
    group by account_id
    having count(*) > 1
)
select again.account_id, count(*) as clearances
from again
join clearance_wallet on clearance_wallet.account_id = again.account_id
join closing_case on closing_case.case_id = clearance_wallet.case_id
where is_own and ended_at is null
group by again.account_id
having count(*) > 1
limit 100

-- Timers that failed and wait for a person.
-- name: audit_parked_timers
select kind, subject, due_at, parked_at, failure
from timer
where parked_at is not null
limit 100
