-- Every statement about clearances. Their rows are locked before customers and cases, by id; what is said of wallets is
-- written and added up by set, however many there are.

-- These clearances, and those that asked for these reports; in the order of model.Clearance.
-- name: lock_clearances
select
    clearance_id, content_hash, cause, dry_run, announce_at, starts_at, deadline, rate_per_s, status, paused,
    correlation_id, traceparent, wallets, revision, event_type, event_body, occurred_at, asked_at, last_account, begun,
    rate_from, rate_begun, wave_at, wave_after
from clearance
where
    clearance_id = any($1::uuid[])
    or clearance_id in (select clearance_report.clearance_id from clearance_report where report_id = any($2::uuid[]))
order by clearance_id
for update

-- Have one transaction at a time begin a clearance of an id.
-- name: lock_ids
select pg_advisory_xact_lock(hashtextextended(clearance_id, 1))
from (select clearance_id from unnest($1::text[]) as asked (clearance_id) order by clearance_id) as ordered

-- Which of these reports clearances asked for.
-- name: find_reports
select report_id, clearance_id from clearance_report where report_id = any($1::uuid[])

-- name: upsert_clearances
insert into clearance (
    clearance_id, content_hash, cause, dry_run, announce_at, starts_at, deadline, rate_per_s, status, paused,
    correlation_id, traceparent, wallets, revision, event_type, event_body, occurred_at, asked_at, last_account, begun,
    rate_from, rate_begun, wave_at, wave_after
)
select *
from unnest(
    $1::uuid[], $2::bytea[], $3::text[], $4::boolean[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
    $8::integer[], $9::text[], $10::boolean[], $11::text[], $12::text[], $13::bigint[], $14::integer[], $15::text[],
    $16::bytea[], $17::timestamptz[], $18::timestamptz[], $19::text[], $20::bigint[], $21::timestamptz[],
    $22::bigint[], $23::timestamptz[], $24::text[]
)
order by 1
on conflict (clearance_id) do update
set
    starts_at = excluded.starts_at,
    status = excluded.status,
    paused = excluded.paused,
    wallets = excluded.wallets,
    revision = excluded.revision,
    event_type = excluded.event_type,
    event_body = excluded.event_body,
    occurred_at = excluded.occurred_at,
    asked_at = excluded.asked_at,
    last_account = excluded.last_account,
    begun = excluded.begun,
    rate_from = excluded.rate_from,
    rate_begun = excluded.rate_begun,
    wave_at = excluded.wave_at,
    wave_after = excluded.wave_after

-- The wallets that new clearances name.
-- name: name_subjects
update clearance
set subjects = new.subjects
from unnest($1::uuid[], $2::jsonb[]) as new (clearance_id, subjects)
where clearance.clearance_id = new.clearance_id

-- name: load_subjects
select subjects from clearance where clearance_id = $1

-- How many wallets are not closed: all, or of those that are named, known or not.
-- name: count_wallets
select
    case
        when $1::text[] is null then (select count(*) from wallet where status <> 'closed')
        else cardinality($1) - (select count(*) from wallet where status = 'closed' and account_id = any($1))
    end

-- name: insert_reports
insert into clearance_report (report_id, clearance_id)
select * from unnest($1::uuid[], $2::uuid[])

-- Note how wallets stand, each once, and how many of a report have come.
-- name: record_reported
with
    new as (
        insert into clearance_wallet (clearance_id, account_id, customer_id, currency, status, posted_minor)
        select report.clearance_id, said.account_id, said.customer_id, said.currency, said.status, said.posted_minor
        from
            unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
                as said (report_id, account_id, customer_id, currency, status, posted_minor)
        join clearance_report as report on report.report_id = said.report_id
        order by report.clearance_id, said.account_id
        on conflict do nothing
        returning clearance_id, account_id
    ),
    counted as (
        select said.report_id, count(*) as wallets
        from unnest($1::uuid[], $2::text[]) as said (report_id, account_id)
        join clearance_report as report on report.report_id = said.report_id
        join new on new.clearance_id = report.clearance_id and new.account_id = said.account_id
        group by said.report_id
    )
update clearance_report
set received = received + counted.wallets
from counted
where clearance_report.report_id = counted.report_id

-- name: record_finished
update clearance_report
set expected = said.expected
from unnest($1::uuid[], $2::bigint[]) as said (report_id, expected)
where clearance_report.report_id = said.report_id

-- Those of these clearances of which everything is reported.
-- name: find_reported
select clearance_id
from clearance_report
where clearance_id = any($1::uuid[])
group by clearance_id
having bool_and(coalesce(expected = received, false))

-- Note the wallets that these clearances name and nobody knows.
-- name: record_unknown
insert into clearance_wallet (clearance_id, account_id, customer_id, currency, status, posted_minor)
select clearance_id, account_id, null, null, 'unknown', 0
from clearance
cross join jsonb_array_elements_text(subjects) as named (account_id)
where clearance_id = any($1::uuid[]) and subjects is not null and status = 'reporting'
order by clearance_id, account_id
on conflict do nothing

-- How many wallets a clearance is about.
-- name: count_found
select count(*) from clearance_wallet where clearance_id = $1 and status <> 'closed'

-- The next wallets whose cases begin.
-- name: load_next
select account_id, customer_id, currency, posted_minor
from clearance_wallet
where clearance_id = $1 and account_id > $2 and status not in ('closed', 'unknown')
order by account_id
limit $3

-- Wallets that were left to a case of their holders, which has ended without closing them.
-- name: load_lost
select clearance_wallet.account_id, clearance_wallet.customer_id, clearance_wallet.currency, posted_minor
from clearance_wallet
join closing_case on closing_case.case_id = clearance_wallet.case_id
where
    clearance_wallet.clearance_id = $1
    and not is_own
    and clearance_wallet.case_id is not null
    and closing_case.status in ('rejected', 'cancelled', 'expired')
order by account_id
limit $2

-- Wallets that were closed since a moment, and by which cases.
-- name: find_closed
select distinct on (subject) subject, case_id
from closing_case
where subject = any($1::text[]) and status = 'closed' and ended_at >= $2
order by subject, received_at desc

-- Note the cases of wallets; what one pays is counted by the clearance that began it, or else that took it up first.
-- name: take_wallets
with
    new as (
        select clearance_id, account_id, case_id, is_own
        from unnest($1::uuid[], $2::text[], $3::uuid[], $4::boolean[]) as new (clearance_id, account_id, case_id, is_own)
    )
update clearance_wallet
set
    case_id = new.case_id,
    is_own = new.is_own,
    is_anothers = not new.is_own
        and (
            exists (
                select from closing_case
                where closing_case.case_id = new.case_id and closing_case.clearance_id <> new.clearance_id
            )
            or exists (
                select from clearance_wallet as other
                where other.case_id = new.case_id and not other.is_own and other.clearance_id <> new.clearance_id
            )
            or exists (
                select from new as other
                where other.case_id = new.case_id and other.clearance_id < new.clearance_id
            )
        )
from new
where clearance_wallet.clearance_id = new.clearance_id and clearance_wallet.account_id = new.account_id

-- The next of a clearance's cases that wait for a payout account: none was named, or its bank refused it.
-- name: load_wanting
select case_id
from (
    (
        select case_id, subject
        from closing_case
        where clearance_id = $1 and status = 'account_wanted' and subject > $2
        order by subject
        limit $3
    )
    union all
    (
        select case_id, subject
        from closing_case
        where
            clearance_id = $1
            and status = 'payout_stopped'
            and subject > $2
            and refusal is not null
            and refusal <> all($4::text[])
        order by subject
        limit $3
    )
) as wanting
order by subject
limit $3

-- Where a clearance's wallets stand, by currency. One that is closed counts when its wallet is, whoever still has to
-- forget its holder; a payout that is tried again by itself does not wait for anybody. What another clearance counts is
-- blocked until that has closed it, and has been moved from then on. Once the deadline has passed, a wallet whose
-- holder's own case waits for somebody stays, and what nobody has answered for long does not keep it from its end.
-- name: tally
select
    currency,
    outcome,
    stands,
    count(*) as wallets,
    sum(posted_minor)::bigint as total_minor,
    sum(paid_minor)::bigint as paid_minor,
    sum(fee_minor)::bigint as fee_minor,
    sum(held_minor)::bigint as held_minor
from (
    select
        clearance_wallet.currency,
        clearance_wallet.posted_minor,
        closing_case.status as stands,
        case when is_anothers then 0 else coalesce(closing_case.paid_minor, 0) end as paid_minor,
        case when is_anothers then 0 else coalesce(closing_case.fee_paid_minor, 0) end as fee_minor,
        coalesce(closing_case.balance_minor, 0) as held_minor,
        case
            when clearance_wallet.status = 'unknown' then 'unknown'
            when closing_case.status in ('erasing', 'closed')
                then
                    case
                        when not is_anothers and closing_case.paid_minor + closing_case.fee_paid_minor > 0 then 'paid'
                        else 'cleared'
                    end
            when closing_case.status in ('rejected', 'cancelled', 'expired')
                then case when is_own then 'blocked' else 'lost' end
            when is_anothers then 'blocked'
            when
                closing_case.status = 'payout_stopped'
                and closing_case.refusal is not null
                and closing_case.refusal <> all($2::text[])
                then 'waiting'
            when closing_case.status = 'payout_review' then 'waiting'
            when closing_case.status = 'account_wanted' then case when $3 and is_own then 'unasked' else 'waiting' end
            when $3 and not is_own and closing_case.status in ('documents_required', 'review', 'approved')
                then 'blocked'
            when $3 and closing_case.status in ('draining', 'paying_out') and closing_case.occurred_at < $4
                then 'unanswered'
            else 'pending'
        end as outcome
    from clearance_wallet
    left join closing_case on closing_case.case_id = clearance_wallet.case_id
    where clearance_wallet.clearance_id = $1 and clearance_wallet.status <> 'closed'
) as wallet_by_outcome
group by currency, outcome, stands

-- What would become of a clearance's wallets if their cases began now and nobody named a payout account any more: paid is
-- what a case of its holder's has asked where to pay.
-- name: tally_dry
select
    currency,
    outcome,
    count(*) as wallets,
    sum(posted_minor)::bigint as total_minor,
    sum(case when outcome = 'paid' then posted_minor else 0 end)::bigint as paid_minor,
    0::bigint as fee_minor,
    sum(posted_minor)::bigint as held_minor
from (
    select
        clearance_wallet.currency,
        posted_minor,
        case
            when clearance_wallet.status = 'unknown' then 'unknown'
            when posted_minor < 0 or debtor.customer_id is not null then 'blocked'
            when begun.clearance_id is not null or begun.is_counted then 'blocked'
            when posted_minor = 0 then 'cleared'
            when begun.status not in ('payout_stopped', 'payout_review') then 'paid'
            else 'waiting'
        end as outcome
    from clearance_wallet
    left join (
        select
            subject,
            clearance_id,
            status,
            exists (
                select from clearance_wallet as other
                where other.case_id = closing_case.case_id and not other.is_own
            ) as is_counted
        from closing_case
        where ended_at is null
    ) as begun on begun.subject = clearance_wallet.account_id
    left join (
        select distinct customer_id
        from position
        where principal_minor <> 0 or interest_minor <> 0 or penalty_minor <> 0
        union
        select customer_id
        from clearance_wallet
        where clearance_id = $1 and status <> 'closed' and posted_minor < 0
    ) as debtor on debtor.customer_id = clearance_wallet.customer_id
    where clearance_wallet.clearance_id = $1 and clearance_wallet.status <> 'closed'
) as wallet_by_outcome
group by currency, outcome

-- What stands against a clearance's wallets; of a debt no more than an event can carry.
-- name: load_blockers
select account_id as subject, code, case_id::text, owed_minor, currency
from (
    select account_id, 'obligation_open' as code, null::uuid as case_id, -posted_minor as owed_minor, currency
    from clearance_wallet
    where clearance_id = $1 and status <> 'closed' and posted_minor < 0
    union all
    select account_id, 'subject_unknown', null, null, null
    from clearance_wallet
    where clearance_id = $1 and status = 'unknown'
    union all
    select account_id, 'case_open', closing_case.case_id, null, null
    from clearance_wallet
    join closing_case on closing_case.subject = account_id and closing_case.ended_at is null
    where
        clearance_wallet.clearance_id = $1
        and clearance_wallet.status <> 'closed'
        and (
            closing_case.clearance_id is not null
            or exists (
                select from clearance_wallet as other
                where other.case_id = closing_case.case_id and not other.is_own
            )
        )
    union all
    select
        account_id,
        'obligation_open',
        null,
        greatest(
            least(principal_minor::numeric + interest_minor + penalty_minor, 9223372036854775807), -9223372036854775807
        )::bigint,
        position.currency
    from clearance_wallet
    join position on position.customer_id = clearance_wallet.customer_id
    where
        clearance_id = $1
        and clearance_wallet.status <> 'closed'
        and (principal_minor <> 0 or interest_minor <> 0 or penalty_minor <> 0)
) as blocker
order by account_id, code, currency, owed_minor
limit $2

-- A clearance as people look at it.
-- name: load_clearance
select
    clearance_id, cause, dry_run, announce_at, starts_at, deadline, rate_per_s, status, paused, wallets, begun, revision,
    event_type, event_body
from clearance
where clearance_id = $1

-- Clearances, the latest to be announced first.
-- name: list_clearances
select clearance_id, cause, dry_run, announce_at, starts_at, deadline, rate_per_s, status, paused, wallets, begun
from clearance
order by announce_at desc, clearance_id
limit $1

-- name: find_status
select status from clearance where clearance_id = $1

-- How many wallets were reported to a clearance.
-- name: count_reported
select coalesce(sum(received), 0)::bigint from clearance_report where clearance_id = $1

-- Wallets that a clearance could not end: with its own cases, and what was said of these last; those that nobody knows,
-- and those in another clearance's open case; once the deadline has passed, also those in a case of their holders' that
-- waits for somebody.
-- name: list_blocked
select subject, case_id, event_body, refusal
from (
    (
        select subject, case_id, event_body, null as refusal
        from closing_case
        where clearance_id = $1 and status = 'rejected'
        order by subject
        limit $2
    )
    union all
    (
        select account_id, closing_case.case_id, null, coalesce(refusal, 'case_open')
        from clearance_wallet
        join closing_case on closing_case.case_id = clearance_wallet.case_id
        where
            clearance_wallet.clearance_id = $1
            and not is_own
            and not is_anothers
            and clearance_wallet.case_id is not null
            and $3
            and closing_case.status in ('documents_required', 'review', 'approved')
        order by account_id
        limit $2
    )
    union all
    (
        select account_id, closing_case.case_id, null, 'case_open'
        from clearance_wallet
        join closing_case on closing_case.case_id = clearance_wallet.case_id
        where
            clearance_wallet.clearance_id = $1
            and is_anothers
            and not is_own
            and clearance_wallet.case_id is not null
            and closing_case.status <> 'erasing'
            and closing_case.ended_at is null
        order by account_id
        limit $2
    )
    union all
    (
        select account_id, null, null, 'subject_unknown'
        from clearance_wallet
        where clearance_id = $1 and status = 'unknown'
        order by account_id
        limit $2
    )
) as blocked
order by subject
limit $2
