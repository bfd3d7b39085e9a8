-- The keys of customers, in the table that every service has which seals something for them.

-- name: load
select customer_id, wrapped_key
from customer_key
where customer_id = any($1::text[])

-- The keys of customers who are locked as they are now; without one, it is destroyed.
-- name: move
with new (customer_id, wrapped_key) as (
    select * from unnest($1::text[], $2::bytea[])
),

destroyed as (
    delete from customer_key
    using new
    where customer_key.customer_id = new.customer_id and new.wrapped_key is null
)

insert into customer_key (customer_id, wrapped_key)
select customer_id, wrapped_key
from new
where
    wrapped_key is not null
    and not exists (
        select from customer_key as held
        where held.customer_id = new.customer_id and held.wrapped_key = new.wrapped_key
    )
on conflict (customer_id) do update
set wrapped_key = excluded.wrapped_key
