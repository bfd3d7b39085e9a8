-- What moved between two accounts of the platform or banks belongs to no wallet: it is found by its transfer. There is
-- little of it, and other movements never touch this index.

create index movement_between_books on movement (transfer_id)
where debit_number is null and credit_number is null;

-- What the latest event of an account, and a report of all wallets, follow from.
alter table account_event
    add column correlation_id text,
    add column traceparent text;
alter table account_report
    add column correlation_id text,
    add column traceparent text;
