-- Every statement of the notifier. A batch runs each at most once, whatever its size.

-- Make a row for everybody who has none yet, in the order of their ids.
-- name: add_customers
insert into customer (customer_id)
select * from unnest($1::text[])
on conflict (customer_id) do nothing

-- Customers by id, locked in the order of their ids; the columns stand in the order of model.Customer.
-- name: load_customers
select customer_id, is_known, locale, time_zone, wants_in_app, inbox_count
from customer
where customer_id = any($1::text[])
order by customer_id
for update

-- Which of these events are accepted already.
-- name: load_announcements
select event_id
from announcement
where event_id = any($1::text[])

-- Who waits for something of these events.
-- name: load_waiting_customers
select distinct customer_id
from notice
where event_id = any($1::text[]) and status = 'pending'

-- The notices of these customers, of these events or of all, that wait, with what they are about; the customers'
-- locks come first.
-- name: load_waiting
select
    notice.notice_id, event_id, customer_id, channel, role, category, urgency, status, why, created_at, ended_at,
    waiting.type, waiting.body
from notice
join waiting using (notice_id)
where customer_id = any($1::text[]) and ($2::text[] is null or event_id = any($2)) and status = 'pending'
order by created_at, notice.notice_id

-- What a batch changed of customers.
-- name: update_customers
update customer
set
    is_known = new.is_known,
    locale = new.locale,
    time_zone = new.time_zone,
    wants_in_app = new.wants_in_app,
    inbox_count = new.inbox_count
from unnest(
    $1::text[], $2::boolean[], $3::text[], $4::text[], $5::boolean[], $6::bigint[]
) as new (
    customer_id, is_known, locale, time_zone, wants_in_app, inbox_count
)
where customer.customer_id = new.customer_id

-- What became of notices that waited.
-- name: end_notices
update notice
set status = new.status, why = new.why, ended_at = new.ended_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) as new (notice_id, status, why, ended_at)
where notice.notice_id = new.notice_id

-- Forget what ended notices were about.
-- name: forget_waiting
delete from waiting
where notice_id = any($1::uuid[])

-- Forget what erased customers were told.
-- name: erase_inboxes
delete from inbox_message
where customer_id = any($1::text[])
