-- What people ask of the ledger: one account's statement, one transfer's record, and whether everything adds up.

-- A wallet's latest entries, newest first, each with its balance; the other party is named. Each side stops at the
-- limit by itself, so that a wallet with a million entries is read from the end of its indexes.
-- name: statement
with entry as (
    (
        select
            debit_number as number, moved_at, transfer_id, purpose, currency,
            - amount_minor as amount_minor, debit_after_minor as after_minor, credit_account as counterparty
        from movement
        where debit_account = $1 and debit_number is not null and moved_at >= $2 and moved_at <= $3
        order by debit_number desc
        limit $4
    )
    union all
    (
        select
            credit_number, moved_at, transfer_id, purpose, currency,
            amount_minor, credit_after_minor, debit_account
        from movement
        where credit_account = $1 and credit_number is not null and moved_at >= $2 and moved_at <= $3
        order by credit_number desc
        limit $4
    )
)
select entry.*, transfer.kind, transfer.reference
from entry
join transfer using (transfer_id)
order by number desc
limit $4

-- A platform account's latest entries, newest first; they have no balance of their own and no index.
-- name: platform_statement
with entry as (
    select
        moved_at, transfer_id, purpose, currency,
        - amount_minor as amount_minor, null::bigint as after_minor, credit_account as counterparty
    from movement
    where debit_account = $1 and moved_at >= $2 and moved_at <= $3
    union all
    select
        moved_at, transfer_id, purpose, currency,
        amount_minor, null, debit_account
    from movement
    where credit_account = $1 and moved_at >= $2 and moved_at <= $3
)
select null::bigint as number, entry.*, transfer.kind, transfer.reference
from entry
join transfer using (transfer_id)
order by moved_at desc
limit $4

-- An account's balance after the last entry at or before a moment; null before its first.
-- name: balance_at
select after_minor
from (
    (
        select debit_number as number, debit_after_minor as after_minor
        from movement
        where debit_account = $1 and debit_number is not null and moved_at <= $2
        order by debit_number desc
        limit 1
    )
    union all
    (
        select credit_number, credit_after_minor
        from movement
        where credit_account = $1 and credit_number is not null and moved_at <= $2
        order by credit_number desc
        limit 1
    )
) as last_entry
order by number desc
limit 1

-- What a platform account held at a moment, by currency: the sum of its entries until then.
-- name: platform_balance_at
select currency, sum(amount_minor) as posted_minor
from (
    select currency, - amount_minor as amount_minor
    from movement
    where debit_account = $1 and moved_at <= $2
    union all
    select currency, amount_minor
    from movement
    where credit_account = $1 and moved_at <= $2
) as entry
group by currency
order by currency

-- What a platform account holds, by currency: the sum of its stripes.
-- name: platform_balance
select currency, sum(posted_minor) as posted_minor
from platform_stripe
where account_id = $1
group by currency
order by currency

-- name: account
select * from account where account_id = $1

-- name: transfer
select * from transfer where transfer_id = $1

-- Whether the customer who ordered a transfer has been erased since; they may be known again, as somebody else.
-- name: is_of_erased
select exists (
    select from transfer
    join erased_customer on erased_customer.customer_id = coalesce(payer_customer_id, payee_customer_id)
    where transfer_id = $1 and (returned_at is null or requested_at < returned_at)
)

-- Every event of a transfer, in order.
-- name: steps
select seq, type, body, occurred_at
from transfer_step
where transfer_id = $1
union all
select seq, event_type, event_body, occurred_at
from transfer
where transfer_id = $1
order by seq

-- These transfers, and why those that came to nothing did.
-- name: find_transfers
select
    transfer_id, kind, payee, amount_minor, fee_minor, currency, status, requested_at,
    convert_from(event_body, 'UTF8')::jsonb -> 'reason' ->> 'code' as code
from transfer
where transfer_id = any($1::uuid[])
order by requested_at, transfer_id

-- name: settled_amounts
select transfer_id, amount_minor
from transfer
where transfer_id = any($1::uuid[]) and status = 'settled'

-- The first event of each of these transfers.
-- name: first_events
select transfer_id, body
from transfer_step
where transfer_id = any($1::uuid[]) and seq = 1
union all
select transfer_id, event_body
from transfer
where transfer_id = any($1::uuid[]) and seq = 1

-- What of a transfer moved in no wallet.
-- name: movements_between_books
select *
from movement
where transfer_id = $1 and debit_number is null and credit_number is null
order by moved_at

-- The first of a wallet's entries that was made at a moment or later, by halving: its entries are numbered from 1 and
-- stand in the order of their moments, but for the seconds that a transaction may have waited for the wallet.
-- name: first_entry_from
with recursive halving as (
    select 1::bigint as low, entry_count + 1 as high
    from account
    where account_id = $1
    union all
    select
        case when middle.moved_at < $2 then middle.number + 1 else halving.low end,
        case when middle.moved_at < $2 then halving.high else middle.number end
    from halving
    cross join lateral (
        select
            (halving.low + halving.high) / 2 as number,
            coalesce(
                (
                    select moved_at
                    from movement
                    where debit_account = $1 and debit_number = (halving.low + halving.high) / 2
                ),
                (
                    select moved_at
                    from movement
                    where credit_account = $1 and credit_number = (halving.low + halving.high) / 2
                )
            ) as moved_at
    ) as middle
    where halving.low < halving.high
)

select max(low)
from halving

-- What a transfer moved in a wallet, among the entries of these numbers.
-- name: movements_among
select *
from movement
where debit_account = $1 and debit_number >= $2 and debit_number < $3 and transfer_id = $4
union all
select *
from movement
where credit_account = $1 and credit_number >= $2 and credit_number < $3 and transfer_id = $4

-- name: refunds_of_transfer
select * from refund where transfer_id = $1 order by requested_at

-- name: refund
select * from refund where refund_id = $1

-- name: timers_of
select kind, subject, due_at, parked_at, failure
from timer
where subject = any($1::text[])
order by due_at

-- What a bank is silent about has a timer for as long as it is asked.
-- name: count_overdue
select count(*)
from (
    select
    from timer
    join transfer on transfer.transfer_id = timer.subject::uuid
    where timer.kind = 'payout' and transfer.refund_due_on < $1
    union all
    select
    from timer
    join refund on refund.refund_id = timer.subject::uuid
    where timer.kind = 'payout' and refund.due_on < $1
) as overdue

-- The audit. Each of the following returns the rows that break one rule: none, when all is well.

-- name: count_everything
select
    (select count(*) from account) as accounts,
    (select count(*) from transfer) as transfers,
    2 * (select count(*) from movement) as entries

-- A wallet's balance is the sum of its entries, its last entry says the same, and no entry is missing.
-- name: audit_balances
with entry as (
    select
        debit_account as account_id, debit_number as number,
        - amount_minor as amount_minor, debit_after_minor as after_minor, currency
    from movement
    where debit_number is not null
    union all
    select credit_account, credit_number, amount_minor, credit_after_minor, currency
    from movement
    where credit_number is not null
),
sums as (
    select
        account_id,
        sum(amount_minor) as posted_minor,
        count(*) as entry_count,
        count(distinct number) as numbers,
        max(number) as last_number,
        min(currency) as lowest_currency,
        max(currency) as highest_currency
    from entry
    group by account_id
)
select
    coalesce(account.account_id, sums.account_id) as account_id,
    account.posted_minor,
    coalesce(sums.posted_minor, 0)::bigint as entries_minor,
    account.entry_count,
    coalesce(sums.entry_count, 0) as entries
from account
full join sums on sums.account_id = account.account_id
where
    account.account_id is null
    or account.posted_minor <> coalesce(sums.posted_minor, 0)
    or account.entry_count <> coalesce(sums.entry_count, 0)
    or account.entry_count <> coalesce(sums.last_number, 0)
    or account.entry_count <> coalesce(sums.numbers, 0)
    or sums.lowest_currency <> account.currency
    or sums.highest_currency <> account.currency
limit 100

-- Each entry's balance is the one before it and its amount.
-- name: audit_running_balances
with entry as (
    select debit_account as account_id, debit_number as number, - amount_minor as amount_minor, debit_after_minor as after_minor
    from movement
    where debit_number is not null
    union all
    select credit_account, credit_number, amount_minor, credit_after_minor
    from movement
    where credit_number is not null
),
chained as (
    select
        account_id, number, amount_minor, after_minor,
        coalesce(lag(after_minor) over (partition by account_id order by number), 0) as before_minor
    from entry
)
select account_id, number, before_minor, amount_minor, after_minor
from chained
where before_minor + amount_minor <> after_minor
limit 100

-- All entries sum to zero: wallets and platform accounts together, by currency.
-- name: audit_zero_sum
with held as (
    select currency, posted_minor from account
    union all
    select currency, posted_minor from platform_stripe
)
select currency, sum(posted_minor)::text as sum_minor
from held
group by currency
having sum(posted_minor) <> 0

-- A platform account's stripes add up to its entries.
-- name: audit_platform
with entry as (
    select debit_account as account_id, currency, - amount_minor as amount_minor
    from movement
    where debit_number is null
    union all
    select credit_account, currency, amount_minor
    from movement
    where credit_number is null
),
entries as (
    select account_id, currency, sum(amount_minor) as entries_minor
    from entry
    group by account_id, currency
),
stripes as (
    select account_id, currency, sum(posted_minor) as posted_minor
    from platform_stripe
    group by account_id, currency
)
select
    account_id, currency,
    coalesce(posted_minor, 0)::text as posted_minor,
    coalesce(entries_minor, 0)::text as entries_minor
from entries
full join stripes using (account_id, currency)
where coalesce(posted_minor, 0) <> coalesce(entries_minor, 0)
limit 100

-- What is reserved is what payouts under way have set aside.
-- name: audit_reservations
with open_payout as (
    select payer as account_id, amount_minor + fee_minor as total_minor
    from transfer
    where kind = 'withdrawal' and status in ('sent', 'delayed')
    union all
    select source_account, amount_minor
    from refund
    where status in ('sent', 'delayed') and source_account like 'wallet:%'
),
open_sums as (
    select account_id, sum(total_minor) as total_minor
    from open_payout
    group by account_id
)
select
    coalesce(account.account_id, open_sums.account_id) as account_id,
    account.reserved_minor,
    coalesce(open_sums.total_minor, 0)::bigint as open_payouts_minor
from account
full join open_sums on open_sums.account_id = account.account_id
where account.reserved_minor is distinct from coalesce(open_sums.total_minor, 0)
limit 100

-- What each transfer moved is what its status says.
-- name: audit_transfers
with moved as (
    select
        transfer_id,
        coalesce(sum(amount_minor) filter (where purpose = 'transfer'), 0) as paid_minor,
        coalesce(sum(amount_minor) filter (where purpose = 'fee'), 0) as fee_minor,
        coalesce(sum(amount_minor) filter (where purpose = 'refund'), 0) as refunded_minor,
        coalesce(sum(amount_minor) filter (where purpose = 'fee_refund'), 0) as refunded_fee_minor,
        coalesce(
            sum(amount_minor) filter (where purpose = 'suspense' and credit_account = 'platform:suspense'), 0
        ) as suspended_minor,
        coalesce(
            sum(amount_minor) filter (where purpose = 'suspense' and debit_account = 'platform:suspense'), 0
        ) as sent_back_minor,
        count(*) filter (where purpose = 'transfer') as payments
    from movement
    group by transfer_id
)
select
    transfer.transfer_id, transfer.kind, transfer.status, transfer.amount_minor, transfer.fee_minor,
    coalesce(moved.paid_minor, 0)::bigint as paid_minor,
    coalesce(moved.refunded_minor, 0)::bigint as refunded_minor
from transfer
full join moved on moved.transfer_id = transfer.transfer_id
where
    transfer.transfer_id is null
    or coalesce(moved.payments, 0) > 1
    or (transfer.status in ('settled', 'refunding') and moved.paid_minor is distinct from transfer.amount_minor)
    or (transfer.status in ('settled', 'refunding') and moved.fee_minor is distinct from transfer.fee_minor)
    or (
        transfer.status in ('scheduled', 'verification_required', 'held', 'sent', 'delayed', 'failed', 'cancelled', 'expired')
        and coalesce(moved.paid_minor, 0) <> 0
    )
    or (
        transfer.status = 'refunded'
        and coalesce(moved.paid_minor, 0) <> coalesce(moved.refunded_minor, 0)
    )
    or (
        transfer.status in ('settled', 'refunding')
        and coalesce(moved.refunded_minor, 0) <> transfer.refunded_minor
    )
    or (moved.paid_minor > 0 and moved.refunded_fee_minor <> transfer.refunded_fee_minor)
    or moved.suspended_minor not in (0, transfer.amount_minor)
    or moved.sent_back_minor <> case when transfer.status = 'refunded' then moved.suspended_minor else 0 end
limit 100

-- Each transfer has every one of its events, numbered from 1.
-- name: audit_steps
with counted as (
    select transfer_id, count(*) as steps, max(seq) as last_seq
    from transfer_step
    group by transfer_id
)
select transfer.transfer_id, transfer.seq, coalesce(counted.steps, 0) as earlier_events
from transfer
full join counted on counted.transfer_id = transfer.transfer_id
where
    transfer.transfer_id is null
    or transfer.seq <> coalesce(counted.steps, 0) + 1
    or transfer.seq <= counted.last_seq
limit 100

-- What waits has a timer that ends its waiting.
-- name: audit_waiting
select transfer.transfer_id, transfer.status, transfer.requested_at
from transfer
where
    transfer.status in ('scheduled', 'verification_required', 'sent', 'delayed')
    and not exists (
        select from timer
        where
            timer.subject = transfer.transfer_id::text
            and timer.parked_at is null
            and timer.kind in ('execute', 'expire', 'verification', 'payout')
    )
union all
select refund.transfer_id, 'refund ' || refund.status, refund.requested_at
from refund
where
    refund.status in ('sent', 'delayed')
    and not exists (
        select from timer
        where timer.subject = refund.refund_id::text and timer.parked_at is null and timer.kind = 'payout'
    )
limit 100

-- What a window holds is held, whatever is held waits for a window, and somebody will look at it.
-- name: audit_held
select
    coalesce(transfer.transfer_id, held_transfer.transfer_id) as transfer_id,
    transfer.status,
    held_transfer.window_id,
    held_transfer.partition
from (select transfer_id, status from transfer where status = 'held') as transfer
full join held_transfer on held_transfer.transfer_id = transfer.transfer_id
where
    transfer.transfer_id is null
    or held_transfer.transfer_id is null
    or not exists (
        select from timer
        where
            timer.kind = 'release'
            and split_part(timer.subject, '/', 1) = held_transfer.window_id::text
            and split_part(timer.subject, '/', 2) = held_transfer.partition::text
            and timer.parked_at is null
    )
limit 100

-- What waits in a wallet that is closing is of its case, or a timer will cancel it; in a closed one nothing waits.
-- name: audit_closing
select account.account_id, account.status, account.case_id, transfer.transfer_id
from account
join transfer on transfer.waiting_of = account.account_id
where
    account.status = 'closed'
    or (
        account.status = 'closing'
        and transfer.case_id is distinct from account.case_id
        and not exists (
            select from timer
            where timer.kind = 'drain' and timer.subject = account.account_id and timer.parked_at is null
        )
    )
limit 100

-- What windows did to transfers, and what they hold still.
-- name: tally_of_windows
select
    named.window_id,
    coalesce((select sum(held) from window_tally where window_tally.window_id = named.window_id), 0)::bigint as held,
    coalesce((select sum(refused) from window_tally where window_tally.window_id = named.window_id), 0)::bigint
        as refused,
    coalesce((select sum(released) from window_tally where window_tally.window_id = named.window_id), 0)::bigint
        as released,
    (select count(*) from held_transfer where held_transfer.window_id = named.window_id) as waiting
from unnest($1::uuid[]) as named (window_id)

-- Events that have waited for their publication longer than a minute, by the clock that stamped them.
-- name: audit_outbox
select lane_group, partition, batch_number, created_at
from outbox
where created_at < now() - interval '1 minute'
limit 100

-- Timers that failed and wait for a person.
-- name: audit_parked_timers
select kind, subject, due_at, parked_at, failure
from timer
where parked_at is not null
limit 100
