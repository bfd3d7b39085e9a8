-- What the measurement of clearances looks at.

-- name: count_wallets
select count(*) from wallet

-- name: count_posted
select count(*) from account where account_id like 'wallet:b%' and posted_minor > 0

-- name: count_closed
select count(*) from account where status = 'closed'

-- name: count_running
select count(*) from clearance where status <> 'finished'

-- name: load_statement
select event_body from clearance where status = 'finished'

-- name: count_not_forgotten
select count(*) from closing_case where status = 'erasing'

-- name: count_settled
select count(*) from transfer where kind = 'withdrawal' and status = 'settled'
