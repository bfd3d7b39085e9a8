-- When somebody was forgotten: what is heard of them later is told to nobody, and what happened before it not even to
-- who comes back. That is kept as long as the accounting.
alter table customer add column erased_at timestamptz;
create index customer_erased on customer (erased_at) where erased_at is not null;
