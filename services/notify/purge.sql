-- Every statement of the purge: each removes a slice of what is kept no longer.

-- Have the slice alone; a worker that cannot leaves it to the one that can.
-- name: claim
select pg_try_advisory_xact_lock(hashtextextended('sluice.notify.purge', 0))

-- The notices of the oldest events that have ended, and of which nothing is on its way.
-- name: choose_notices
select notice_id, customer_id
from announcement
join notice using (event_id)
where
    accepted_at < $1
    and status <> 'pending'
    and not exists (select from delivery where delivery.delivery_id = notice.delivery_id)
order by accepted_at
limit $2

-- Lock whom these were told to, in the order of their ids, before what they were told.
-- name: lock_customers
select
from customer
where customer_id = any($1::text[])
order by customer_id
for update

-- Lock what is in inboxes of these notices, in the order in which people note that they read it.
-- name: lock_inboxes
select
from inbox_message
where notice_id = any($1::uuid[])
order by customer_id, number
for update

-- Lock the attempts at these notices' messages, in the order of their ids: receipts lock them before notices, too.
-- name: lock_attempts
select
from attempt
where delivery_id in (select notice.delivery_id from notice where notice_id = any($1::uuid[]))
order by delivery_id, number
for update

-- Lock notices, in the order of their ids.
-- name: lock_notices
select
from notice
where notice_id = any($1::uuid[])
order by notice_id
for update

-- Remove notices, with what is in inboxes of them, and count them out of what their events were accepted for. Returns
-- the messages that they left by.
-- name: purge_notices
with unread as (
    delete from inbox_message
    where notice_id = any($1::uuid[])
),

gone as (
    delete from notice
    where notice_id = any($1::uuid[])
    returning event_id, delivery_id
),

fewer as (
    update announcement
    set accepted = accepted - counted.notices
    from (select event_id, count(*) as notices from gone group by event_id) as counted
    where announcement.event_id = counted.event_id
)

select distinct delivery_id
from gone
where delivery_id is not null

-- Remove the attempts at messages of which no notice is left.
-- name: purge_attempts
delete from attempt
where
    delivery_id = any($1::uuid[])
    and not exists (select from notice where notice.delivery_id = attempt.delivery_id)

-- The oldest events of which no notice is left and none will be made.
-- name: choose_announcements
select event_id
from announcement
where
    accepted_at < $1
    and accepted = 0
    and not exists (select from broadcast where notification_id = event_id and not is_over)
order by accepted_at
limit $2

-- Lock broadcasts, in the order of their ids, in which everybody does.
-- name: lock_broadcasts
select
from broadcast
where notification_id = any($1::text[])
order by notification_id
for update

-- Lock how broadcasts stood when they were counted, in the order in which they are counted.
-- name: lock_counts
select
from broadcast_count
where notification_id = any($1::text[])
order by notification_id
for update

-- Remove events, and the broadcasts that they were.
-- name: purge_announcements
with ended as (
    delete from broadcast
    where notification_id = any($1::text[])
),

uncounted as (
    delete from broadcast_count
    where notification_id = any($1::text[])
)

delete from announcement
where event_id = any($1::text[])

-- Remove those who are not known and of whom no notice is left, with what is known of their banks.
-- name: purge_customers
with gone as (
    delete from customer
    where
        customer_id = any($1::text[])
        and not is_known
        and erasing is null
        and (erased_at is null or erased_at <= $2)
        and not exists (select from notice where notice.customer_id = customer.customer_id)
    returning customer_id
)

delete from bank_use
using gone
where bank_use.customer_id = gone.customer_id

-- Those who were erased longer ago than that is remembered, and of whom no notice is left.
-- name: choose_erased
select customer_id
from customer
where erased_at <= $1 and (is_known or not exists (select from notice where notice.customer_id = customer.customer_id))
order by erased_at
limit $2

-- Forget that those of them who have come back were erased; they are locked.
-- name: forget_erased
update customer
set erased_at = null
where customer_id = any($1::text[]) and is_known

-- Remove that text messages went to numbers longer ago than operators count; a row that somebody has waits for the next
-- slice. Returns of how many numbers.
-- name: purge_texted_numbers
with chosen as materialized (
    select number_hash
    from texted_number
    where oldest <= $1
    order by oldest
    limit $2
    for update skip locked
),

gone as (
    delete from texted_number
    using chosen
    where texted_number.number_hash = chosen.number_hash and recent[cardinality(recent)] <= $1
),

fewer as (
    update texted_number
    set (recent, oldest) = (select array_agg(at order by at), min(at) from unnest(recent) as at where at > $1)
    from chosen
    where texted_number.number_hash = chosen.number_hash and recent[cardinality(recent)] > $1
)

select count(*)
from chosen
