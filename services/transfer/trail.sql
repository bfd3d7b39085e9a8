-- What happened to one transfer, wallet or window in the ledger. Every statement finds its rows by an index.

-- What an id is the id of, each with what it is about.
-- name: know
select 'transfer' as kind, transfer_id::text as id from transfer where transfer_id = $1
union all
select 'transfer', transfer_id::text from refund where refund_id = $1
union all
select 'waiver', compensation_id::text from fee_waiver where compensation_id = $1
union all
select 'batch', id from answer where scope = 'batch_id' and id = $1::text

-- When a batch of this id was decided.
-- name: batch
select occurred_at from answer where scope = 'batch_id' and id = $1

-- What commands of this id were answered with, whoever sent them: scopes are few, and each is looked up by itself.
-- name: answers
with recursive known as (
    (select scope from answer order by scope limit 1)
    union all
    select (select answer.scope from answer where answer.scope > known.scope order by answer.scope limit 1)
    from known
    where known.scope is not null
)

select answer.scope, answer.id, answer.type, answer.event_id, answer.body, answer.occurred_at
from known
join answer on answer.scope = known.scope and answer.id = $1

-- What a customer need not pay because of windows, as far as this transfer is theirs.
-- name: waivers_of_customer
select compensation_id, window_id, remaining, expires_at
from fee_waiver
where customer_id = $1

-- What a window holds now, the first of each lane first.
-- name: held_by
select transfer_id, held_transfer.number, transfer.kind, transfer.amount_minor, transfer.currency, transfer.occurred_at
from held_transfer
join transfer using (transfer_id)
where window_id = $1
order by held_transfer.partition, held_transfer.number
limit $2

-- Wallets with their latest event.
-- name: wallets
select
    account.account_id, account.customer_id, account.status, account.currency, account.posted_minor,
    account.reserved_minor, account.case_id, account.opened_at, account_event.type, account_event.version,
    account_event.occurred_at
from account
left join account_event using (account_id)
where account.account_id = any($1::text[])
order by account.account_id

-- The latest transfers that moved something in a wallet.
-- name: latest_of_wallet
with entry as (
    (
        select debit_number as number, transfer_id
        from movement
        where debit_account = $1 and debit_number is not null
        order by debit_number desc
        limit $2
    )
    union all
    (
        select credit_number, transfer_id
        from movement
        where credit_account = $1 and credit_number is not null
        order by credit_number desc
        limit $2
    )
)

select transfer_id, max(number) as number
from entry
group by transfer_id
order by number desc
limit $2
