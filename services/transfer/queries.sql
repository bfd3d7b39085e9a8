-- Every statement of the transfer service. A batch runs each at most once, or once a part, whatever its size.

-- Decide beside other batches, but not while windows change: whoever changes them waits until what was decided by the
-- old ones is committed, and so sees all that they hold. The next statement sees the windows as they are.
-- name: share_gate
select pg_advisory_xact_lock_shared('closed_window'::regclass::integer, 0)

-- Change windows while no batch decides by them.
-- name: take_gate
select pg_advisory_xact_lock('closed_window'::regclass::integer, 0)

-- The windows in force at a moment; the columns stand in the order of model.ClosedWindow.
-- name: load_windows_in_force
select
    window_id, functions, banks, currencies, starts_at, ends_at, is_confirmed, holds, alternatives,
    exists (select from fee_waiver where remaining > 0 and expires_at > $1) as has_waivers,
    exists (select from risk_flag where until > $1) as has_flags
from (values (1)) as one (row)
left join closed_window on not is_over and starts_at <= $1 and (is_confirmed or ends_at > $1)

-- What windows hold in lanes, the next of each in its order: so many of each at most.
-- name: load_held
select asked.window_id, asked.partition, held.transfer_id
from unnest($1::uuid[], $2::integer[]) as asked (window_id, partition)
cross join lateral (
    select held_transfer.transfer_id, held_transfer.number
    from held_transfer
    where held_transfer.window_id = asked.window_id and held_transfer.partition = asked.partition
    order by held_transfer.number
    limit $3
) as held
order by asked.window_id, asked.partition, held.number

-- Keep windows as their latest events have them; an event of a lower revision changes nothing.
-- name: upsert_windows
insert into closed_window (
    window_id, functions, banks, currencies, starts_at, ends_at, is_confirmed, holds, alternatives, revision, is_over
)
select
    window_id,
    array(select jsonb_array_elements_text(functions)),
    array(select jsonb_array_elements_text(banks)),
    array(select jsonb_array_elements_text(currencies)),
    starts_at, ends_at, is_confirmed, holds, alternatives, revision, is_over
from unnest(
    $1::uuid[], $2::jsonb[], $3::jsonb[], $4::jsonb[], $5::timestamptz[], $6::timestamptz[],
    $7::boolean[], $8::boolean[], $9::jsonb[], $10::bigint[], $11::boolean[]
) as new (
    window_id, functions, banks, currencies, starts_at, ends_at, is_confirmed, holds, alternatives, revision, is_over
)
on conflict (window_id) do update
set
    functions = excluded.functions,
    banks = excluded.banks,
    currencies = excluded.currencies,
    starts_at = excluded.starts_at,
    ends_at = excluded.ends_at,
    is_confirmed = excluded.is_confirmed,
    holds = excluded.holds,
    alternatives = excluded.alternatives,
    revision = excluded.revision,
    is_over = excluded.is_over
where closed_window.revision < excluded.revision
returning closed_window.window_id, closed_window.revision

-- In which lanes windows hold something, and when it may go on: at once where a window is over or has not begun.
-- name: load_holds
select
    held.window_id,
    held.partition,
    case when not closed_window.is_over and closed_window.starts_at <= $2 then closed_window.ends_at else $2 end as due_at
from (
    select distinct window_id, partition
    from held_transfer
    where window_id = any($1::uuid[])
) as held
join closed_window on closed_window.window_id = held.window_id

-- Have transfers wait for windows, after those of their lane that wait already; one that waited for another window
-- keeps its place. Only the lane's owner adds to it, so its numbers need no sequence.
-- name: upsert_held
insert into held_transfer (transfer_id, window_id, partition, number)
select
    new.transfer_id,
    new.window_id,
    new.partition,
    coalesce(last.number, 0) + row_number() over (partition by new.partition order by new.place)
from unnest($1::uuid[], $2::uuid[], $3::integer[]) with ordinality as new (transfer_id, window_id, partition, place)
left join lateral (
    select held_transfer.number
    from held_transfer
    where held_transfer.partition = new.partition
    order by held_transfer.number desc
    limit 1
) as last on true
on conflict (transfer_id) do update
set window_id = excluded.window_id, partition = excluded.partition

-- Forget transfers that wait no more.
-- name: delete_held
delete from held_transfer
where transfer_id = any($1::uuid[])

-- Count what windows did to transfers, each lane in its own row.
-- name: add_to_tallies
insert into window_tally (window_id, stripe, held, refused, released)
select * from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[])
on conflict (window_id, stripe) do update
set
    held = window_tally.held + excluded.held,
    refused = window_tally.refused + excluded.refused,
    released = window_tally.released + excluded.released

-- Let nobody be erased until this transaction has ended.
-- name: share_customers
select pg_advisory_xact_lock_shared('erased_customer'::regclass::integer, 0)

-- Wait until no transaction writes down what customers are given, and let none begin to.
-- name: take_customers
select pg_advisory_xact_lock('erased_customer'::regclass::integer, 0)

-- Keep the fees that customers need not pay; granted once, and not to who was erased and has not come back since.
-- name: insert_waivers
insert into fee_waiver (compensation_id, customer_id, window_id, remaining, expires_at)
select compensation_id, customer_id, window_id, remaining, expires_at
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::timestamptz[], $6::timestamptz[])
    as given (compensation_id, customer_id, window_id, remaining, expires_at, granted_at)
where not exists (
    select from erased_customer
    where erased_customer.customer_id = given.customer_id and (returned_at is null or returned_at > given.granted_at)
)
order by 1
on conflict (compensation_id) do nothing

-- The fees that these customers need not pay, locked in the order of their ids.
-- name: load_waivers
select compensation_id, customer_id, window_id, remaining, expires_at
from fee_waiver
where customer_id = any($1::text[]) and remaining > 0 and expires_at > $2
order by compensation_id
for update

-- Use up what was waived.
-- name: use_waivers
update fee_waiver
set remaining = remaining - used.count
from unnest($1::uuid[], $2::bigint[]) as used (compensation_id, count)
where fee_waiver.compensation_id = used.compensation_id

-- Forget flags that are cleared: all of these customers, these by customer and rule, and those whose time is over; each
-- found by an index, and locked in one order. One that was over is looked at again when it is locked: it may have been
-- said again.
-- name: delete_flags
with gone as (
    select customer_id, rule, false as is_cleared from risk_flag where until <= $4
    union all
    select customer_id, rule, true from risk_flag where customer_id = any($1::text[])
    union all
    select customer_id, rule, true from unnest($2::text[], $3::text[]) as said (customer_id, rule)
),

locked as (
    select risk_flag.customer_id, risk_flag.rule
    from gone
    join risk_flag using (customer_id, rule)
    where is_cleared or risk_flag.until <= $4
    order by risk_flag.customer_id, risk_flag.rule
    for update of risk_flag
)

delete from risk_flag
using locked
where risk_flag.customer_id = locked.customer_id and risk_flag.rule = locked.rule

-- Keep until when rules suspect customers; said again, the last moment counts. Who was erased and has not come back is
-- nobody.
-- name: upsert_flags
insert into risk_flag (customer_id, rule, until)
select customer_id, rule, until
from unnest($1::text[], $2::text[], $3::timestamptz[]) as new (customer_id, rule, until)
where not exists (
    select from erased_customer
    where erased_customer.customer_id = new.customer_id and returned_at is null
)
on conflict (customer_id, rule) do update
set until = excluded.until

-- Refunds by id, locked in the order of their ids.
-- name: load_refunds
select
    refund_id, transfer_id, amount_minor, fee_minor, status, source_account, requested_at,
    due_on, inquiries, unknown_answers, contradiction
from refund
where refund_id = any($1::uuid[])
order by refund_id
for update

-- Transfers by id, locked in the order of their ids; the columns stand in the order of model.Transfer.
-- name: load_transfers
select
    transfer_id, content_hash, kind, payer, payee, payer_customer_id, payee_customer_id,
    amount_minor, fee_minor, currency, reference, case_id, correlation_id, traceparent,
    requested_at, execute_at, expires_at, occurred_at, status, seq, event_type, event_body,
    verified, attempts_left, resends_left, verification_expires_at, used_on, inquiries, unknown_answers,
    refund_due_on, refunding_minor, refunded_minor, refunded_fee_minor, contradiction, may_be_held,
    payee_name_sealed
from transfer
where transfer_id = any($1::uuid[])
order by transfer_id
for update

-- Have all accounts for one batch: wait for every other that has some, and let none begin. The next statement sees
-- what they recorded.
-- name: take_turn
select pg_advisory_xact_lock('account'::regclass::integer, 0)

-- Have some accounts beside others that have some, but beside none that has all.
-- name: share_turn
select pg_advisory_xact_lock_shared('account'::regclass::integer, 0)

-- Accounts by id, locked in the order of their ids, so that workers cannot wait for each other in a circle;
-- the columns after the first, which is where the row lies, stand in the order of model.Account. The last is until when
-- the holder is restricted: looked up only where there are flags at all.
-- name: load_accounts
select
    ctid, account_id, customer_id, currency, tier, status, overdraft_limit_minor, low_balance_threshold_minor,
    low_balance_warned, debit_restricted_until, credit_restricted_until, verification_blocked_until,
    posted_minor, reserved_minor, entry_count, version,
    used_on, used_day_minor, used_day_count, used_month_minor, opened_at, opening_hash, case_id,
    case
        when $2::boolean then (
            select max(risk_flag.until)
            from risk_flag
            where risk_flag.customer_id = account.customer_id and risk_flag.until > $3
        )
    end as flagged_until
from account
where account_id = any($1::text[])
order by account_id
for update

-- Those of these wallets of whom transfers wait, other than the transfers named.
-- name: find_waiting
select
    asked.account_id,
    exists (
        select from transfer
        where transfer.waiting_of = asked.account_id and transfer.transfer_id <> all($2::uuid[])
    ),
    account_event.correlation_id,
    account_event.traceparent
from unnest($1::text[]) as asked (account_id)
left join account_event using (account_id)

-- What waits in these wallets and is not of the case that they are closing for: so many in all at most.
-- name: load_draining
select account.account_id, waiting.transfer_id
from account
cross join lateral (
    select transfer.transfer_id
    from transfer
    where transfer.waiting_of = account.account_id and transfer.case_id is distinct from account.case_id
    order by transfer.transfer_id
    -- Here, too, so that of a wallet of whom very many wait no batch reads all.
    limit $2
) as waiting
where account.account_id = any($1::text[]) and account.status = 'closing'
order by account.account_id, waiting.transfer_id
limit $2

-- What waits in these wallets of the cases that they are closing for.
-- name: load_own_waiting
select transfer.transfer_id
from account
join transfer on transfer.waiting_of = account.account_id and transfer.case_id = account.case_id
where account.account_id = any($1::text[]) and account.status = 'closing'

-- How far these reports have come.
-- name: load_reports
select report_id, last_account_id, count, total_minor::text, correlation_id, traceparent
from account_report
where report_id = any($1::uuid[])

-- The wallets that these reports tell of next, so many of each; after the first, the columns stand in the order of
-- model.Account.
-- name: load_slices
select
    account_report.report_id,
    next.account_id, customer_id, currency, tier, status, overdraft_limit_minor, low_balance_threshold_minor,
    low_balance_warned, debit_restricted_until, credit_restricted_until, verification_blocked_until,
    posted_minor, reserved_minor, entry_count, version,
    used_on, used_day_minor, used_day_count, used_month_minor, opened_at, opening_hash, case_id
from account_report
cross join lateral (
    select *
    from account
    where account.account_id > account_report.last_account_id
    order by account.account_id
    limit $2
) as next
where report_id = any($1::uuid[])
order by account_report.report_id, next.account_id

-- Keep how far reports have come; one that another lane is asked for, too, does not begin again.
-- name: upsert_reports
insert into account_report (report_id, last_account_id, count, total_minor, correlation_id, traceparent)
select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::jsonb[], $5::text[], $6::text[])
on conflict (report_id) do update
set
    last_account_id = excluded.last_account_id,
    count = excluded.count,
    total_minor = excluded.total_minor
where account_report.count < excluded.count

-- Forget reports that are finished.
-- name: delete_reports
delete from account_report
where report_id = any($1::uuid[])

-- The latest events of accounts about whom a batch may repeat what was said.
-- name: load_account_events
select account_id, version, type, body, occurred_at, correlation_id, traceparent
from account_event
where account_id = any($1::text[])

-- What commands with these ids were answered with before.
-- name: load_answers
select answer.scope, answer.id, content_hash, message_key, type, event_id, body, occurred_at
from answer
join unnest($1::text[], $2::text[]) as asked (scope, id)
    on asked.scope = answer.scope and asked.id = answer.id

-- The hashes of the names of these customers.
-- name: load_holders
select customer_id, name_hash
from holder
where customer_id = any($1::text[])

-- Keep a new customer's key; when another worker was first, its key counts.
-- name: insert_customer_keys
insert into customer_key (customer_id, wrapped_key)
select * from unnest($1::text[], $2::bytea[])
on conflict (customer_id) do nothing

-- Where the balances that a batch changed are put by COPY: rows that stream in cost half of what arrays of them do.
-- name: create_new_balance
create temporary table if not exists new_balance (
    place              tid not null,
    account_id         text collate "C" not null,
    posted_minor       bigint not null,
    reserved_minor     bigint not null,
    entry_count        bigint not null,
    version            bigint not null,
    low_balance_warned boolean not null,
    used_on            date not null,
    used_day_minor     bigint not null,
    used_day_count     integer not null,
    used_month_minor   bigint not null
)
on commit delete rows

-- What a batch changed of accounts by moving money; a row that this transaction has locked lies where it was read,
-- which saves finding it once more.
-- name: update_balances
update account
set
    posted_minor = new.posted_minor,
    reserved_minor = new.reserved_minor,
    entry_count = new.entry_count,
    version = new.version,
    low_balance_warned = new.low_balance_warned,
    used_on = new.used_on,
    used_day_minor = new.used_day_minor,
    used_day_count = new.used_day_count,
    used_month_minor = new.used_month_minor
from new_balance as new
where account.ctid = new.place and account.account_id = new.account_id

-- What a batch changed of accounts that it began to close, closed, or opened again: status and balance in one, since a
-- closed one holds nothing.
-- name: update_statuses
update account
set
    status = new.status,
    case_id = new.case_id,
    posted_minor = new.posted_minor,
    reserved_minor = new.reserved_minor,
    entry_count = new.entry_count,
    version = new.version,
    low_balance_warned = new.low_balance_warned,
    used_on = new.used_on,
    used_day_minor = new.used_day_minor,
    used_day_count = new.used_day_count,
    used_month_minor = new.used_month_minor
from unnest(
    $1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[],
    $9::date[], $10::bigint[], $11::integer[], $12::bigint[]
) as new (
    status, case_id, account_id, posted_minor, reserved_minor, entry_count, version, low_balance_warned,
    used_on, used_day_minor, used_day_count, used_month_minor
)
where account.account_id = new.account_id

-- What a batch changed of accounts by commands about them.
-- name: update_account_settings
update account
set
    tier = new.tier,
    low_balance_threshold_minor = new.low_balance_threshold_minor,
    debit_restricted_until = new.debit_restricted_until,
    credit_restricted_until = new.credit_restricted_until,
    verification_blocked_until = new.verification_blocked_until
from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[]) as new (
    account_id, tier, low_balance_threshold_minor,
    debit_restricted_until, credit_restricted_until, verification_blocked_until
)
where account.account_id = new.account_id

-- The latest event of each account that a batch announced.
-- name: upsert_account_events
insert into account_event (account_id, version, type, body, occurred_at, correlation_id, traceparent)
select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[], $7::text[])
on conflict (account_id) do update
set
    version = excluded.version,
    type = excluded.type,
    body = excluded.body,
    occurred_at = excluded.occurred_at,
    correlation_id = excluded.correlation_id,
    traceparent = excluded.traceparent

-- What a batch changed of transfers that were there before.
-- name: update_transfers
update transfer
set
    fee_minor = new.fee_minor,
    status = new.status,
    verified = new.verified,
    attempts_left = new.attempts_left,
    resends_left = new.resends_left,
    verification_expires_at = new.verification_expires_at,
    used_on = new.used_on,
    inquiries = new.inquiries,
    unknown_answers = new.unknown_answers,
    refund_due_on = new.refund_due_on,
    refunding_minor = new.refunding_minor,
    refunded_minor = new.refunded_minor,
    refunded_fee_minor = new.refunded_fee_minor,
    contradiction = new.contradiction,
    seq = new.seq,
    event_type = new.event_type,
    event_body = new.event_body,
    occurred_at = new.occurred_at,
    payee_name_sealed = new.payee_name_sealed
from unnest(
    $1::uuid[], $2::bigint[], $3::text[], $4::boolean[], $5::smallint[], $6::smallint[], $7::timestamptz[],
    $8::date[], $9::smallint[], $10::smallint[], $11::date[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::text[], $16::integer[], $17::text[], $18::bytea[], $19::timestamptz[], $20::bytea[]
) as new (
    transfer_id, fee_minor, status, verified, attempts_left, resends_left, verification_expires_at,
    used_on, inquiries, unknown_answers, refund_due_on, refunding_minor, refunded_minor, refunded_fee_minor,
    contradiction, seq, event_type, event_body, occurred_at, payee_name_sealed
)
where transfer.transfer_id = new.transfer_id

-- What a batch changed of refunds that were there before.
-- name: update_refunds
update refund
set
    status = new.status,
    inquiries = new.inquiries,
    unknown_answers = new.unknown_answers,
    contradiction = new.contradiction
from unnest($1::uuid[], $2::text[], $3::smallint[], $4::smallint[], $5::text[]) as new (
    refund_id, status, inquiries, unknown_answers, contradiction
)
where refund.refund_id = new.refund_id

-- Add a batch's movements to the platform accounts, each lane to its own stripes.
-- name: add_to_platform
insert into platform_stripe (account_id, currency, stripe, posted_minor)
select * from unnest($1::text[], $2::text[], $3::integer[], $4::bigint[])
on conflict (account_id, currency, stripe) do update
set posted_minor = platform_stripe.posted_minor + excluded.posted_minor

-- Remember what commands were answered with; what began earlier keeps the content it began with.
-- name: upsert_answers
insert into answer (scope, id, content_hash, message_key, type, event_id, body, occurred_at)
select *
from unnest(
    $1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::bytea[], $8::timestamptz[]
)
on conflict (scope, id) do update
set
    message_key = excluded.message_key,
    type = excluded.type,
    event_id = excluded.event_id,
    body = excluded.body,
    occurred_at = excluded.occurred_at

-- Keep the hashes of holders' names.
-- name: upsert_holders
insert into holder (customer_id, name_hash)
select * from unnest($1::text[], $2::bytea[])
on conflict (customer_id) do update
set name_hash = excluded.name_hash

-- Forget erased customers: their name's hash, the key of what is sealed for them, and what was sealed; that there
-- was something stays known. Transfers are locked by id, like everywhere.
-- name: erase_customers
with forgotten_holder as (
    delete from holder
    where customer_id = any($1::text[])
),
forgotten_name as (
    update transfer
    set payee_name_sealed = ''
    where transfer_id in (
        select transfer_id
        from transfer
        where payer_customer_id = any($1::text[]) and payee_name_sealed is not null
        order by transfer_id
        for update
    )
)
delete from customer_key
where customer_id = any($1::text[])

-- Remember who was erased.
-- name: upsert_erased
insert into erased_customer (customer_id)
select gone.customer_id from unnest($1::text[]) as gone (customer_id)
on conflict (customer_id) do update
set returned_at = null

-- Note who has come back after their erasure.
-- name: note_returned
update erased_customer
set returned_at = $2
where customer_id = any($1::text[]) and returned_at is null

-- Forget that these customers were erased.
-- name: delete_erased
delete from erased_customer
where customer_id = any($1::text[])

-- Forget what erased customers need not pay.
-- name: delete_waivers
delete from fee_waiver
where compensation_id in (
    select compensation_id
    from fee_waiver
    where customer_id = any($1::text[])
    order by compensation_id
    for update
)
