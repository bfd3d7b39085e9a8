-- Every statement of people's inboxes as they are read. Only those who are known by a profile have one.

-- A page of an inbox, newest first, below a number or from the newest on; one row without a message where there is
-- none. No row: nobody is known by that id.
-- name: load_page
select
    customer_key.wrapped_key, customer.locale, customer.time_zone, customer.inbox_count,
    (select count(*) from inbox_message as unread where unread.customer_id = $1 and unread.read_at is null) as unread,
    message.number, message.notice_id, message.sealed, message.locale, message.texts, message.arrived_at, message.read_at
from customer
join customer_key using (customer_id)
left join lateral (
    select number, notice_id, sealed, inbox_message.locale, broadcast.texts, arrived_at, read_at
    from inbox_message
    left join broadcast using (notification_id)
    where inbox_message.customer_id = customer.customer_id and ($2::bigint is null or number < $2)
    order by number desc
    limit $3
) as message on true
where customer.customer_id = $1 and customer.is_known
order by message.number desc

-- What is new to each of these streams after the number that it has seen, at most so many messages, oldest first; no
-- number is from now on. A stream that did not ask and for which there is nothing new has no row; one whose reader is
-- gone has a row without a key.
-- name: load_news
with asked as (
    select customer_id, seen, is_asked, place
    from unnest($1::text[], $2::bigint[], $3::boolean[]) with ordinality as stream (customer_id, seen, is_asked, place)
),
found as (
    select
        asked.place, customer.customer_id, customer_key.wrapped_key, customer.inbox_count,
        least(coalesce(asked.seen, customer.inbox_count), customer.inbox_count) as seen
    from asked
    left join customer on customer.customer_id = asked.customer_id and customer.is_known
    left join customer_key on customer_key.customer_id = customer.customer_id
    where asked.is_asked or customer.customer_id is null or customer.inbox_count > asked.seen
)
select
    found.place, found.wrapped_key, found.inbox_count,
    (
        select count(*)
        from inbox_message as unread
        where unread.customer_id = found.customer_id and unread.read_at is null
    ) as unread,
    message.number, message.notice_id, message.sealed, message.locale, message.texts, message.arrived_at, message.read_at
from found
left join lateral (
    select number, notice_id, sealed, inbox_message.locale, broadcast.texts, arrived_at, read_at
    from inbox_message
    left join broadcast using (notification_id)
    where inbox_message.customer_id = found.customer_id and number > found.seen
    order by number
    limit $4
) as message on true
order by found.place, message.number

-- Note that a customer has read messages: those of these numbers, or all up to one. They are locked in one order, so
-- that two devices that say so at once do not wait for each other.
-- name: mark_read
with chosen as materialized (
    select number
    from inbox_message
    where customer_id = $1 and read_at is null and (number = any($2::bigint[]) or number <= $3::bigint)
    order by number
    for update
)
update inbox_message
set read_at = $4
from chosen
where inbox_message.customer_id = $1 and inbox_message.number = chosen.number

-- How many messages a customer has not read; no row when nobody is known by that id.
-- name: count_unread
select (select count(*) from inbox_message where inbox_message.customer_id = $1 and read_at is null)
from customer
where customer.customer_id = $1 and customer.is_known

-- Tell every worker's streams, once this is committed, that this customer has read something.
-- name: tell_read
select pg_notify('inbox', $1)
