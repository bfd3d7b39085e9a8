-- When somebody was forgotten: what is heard of them later is told to nobody, and what happened before it not even to
-- who comes back. That is kept as long as the accounting.
-- Who leaves has been told of the receipt of their closing, or will be, and of nothing after it.
alter table customer
    add column erased_at timestamptz,
    add column is_leaving boolean not null default false;
create index customer_erased on customer (erased_at) where erased_at is not null;
