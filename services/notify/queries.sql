-- Every statement of the notifier's consumer. A batch runs each at most once, whatever its size.

-- Make rows for those who have none yet, in the order of their ids. That comes before any lock: who waits here for
-- somebody's new row holds no other row that anybody can see.
-- name: add_customers
insert into customer (customer_id)
select customer_id
from unnest($1::text[]) as wanted (customer_id)
where not exists (select from customer where customer.customer_id = wanted.customer_id)
order by customer_id collate "C"
on conflict (customer_id) do nothing

-- Customers by id, locked in the order of their ids; the columns stand in the order of model.Customer.
-- name: load_customers
select
    customer_id, is_known, locale, time_zone, tier, wants_in_app, wants_email, wants_sms, wants_marketing,
    is_unsubscribed, quiet_from, quiet_to, phone_reach, email_reach, phone_hash, inbox_count, contacts, erasing,
    erased_at, is_leaving
from customer
where customer_id = any($1::text[])
order by customer_id
for update

-- Which of these events are accepted already.
-- name: load_announcements
select event_id, content_hash
from announcement
where event_id = any($1::text[])

-- What these events follow from.
-- name: load_causes
select event_id, correlation_id, traceparent
from announcement
where event_id = any($1::text[])

-- Who waits for something of these events.
-- name: load_waiting_customers
select distinct customer_id
from waiting
where event_id = any($1::text[])

-- The notices of these events and customers that wait, with what they are about; the customers' locks come first. The
-- columns before the last stand in the order of model.Notice.
-- name: load_waiting_of_events
select
    notice.notice_id, notice.event_id, notice.customer_id, channel, role, category, urgency, template, delivery_id,
    lane_group, partition, status, why, told, created_at, ended_at, waiting.sealed
from waiting
join notice using (notice_id)
where waiting.event_id = any($1::text[]) and waiting.customer_id = any($2::text[])
order by created_at, notice.notice_id

-- The same of these customers alone, the oldest first.
-- name: load_waiting_of_customers
select
    notice.notice_id, notice.event_id, notice.customer_id, channel, role, category, urgency, template, delivery_id,
    lane_group, partition, status, why, told, created_at, ended_at, waiting.sealed
from waiting
join notice using (notice_id)
where waiting.customer_id = any($1::text[]) and why is distinct from 'scheduled'
order by created_at, notice.notice_id
limit $2

-- Lock what is on its way to these customers, in the order of the messages' ids: dispatchers lock messages before
-- notices, too.
-- name: lock_deliveries_of_customers
select delivery_id
from delivery
where customer_id = any($1::text[])
order by delivery_id
for update

-- Everything of these customers that is pending: what waits, with what it is about, what is gathered, and what is on
-- its way. Few are erased at a time, and what is on its way is not much: it has no index for this.
-- name: load_pending_of_customers
select
    notice.notice_id, notice.event_id, notice.customer_id, channel, role, category, urgency, template, delivery_id,
    lane_group, partition, status, why, told, created_at, ended_at, waiting.sealed
from (
    select notice_id
    from waiting
    where customer_id = any($1::text[])
    union
    select notice_id
    from digest_item
    where customer_id = any($1::text[])
    union
    select notice.notice_id
    from delivery
    join notice using (delivery_id)
    where delivery.customer_id = any($1::text[]) and notice.status = 'pending'
) as pending
join notice using (notice_id)
left join waiting using (notice_id)
where status = 'pending'
order by created_at, notice.notice_id
limit $2

-- The receipts of closings that these customers were to be told of: where an erasure comes later, when that closing was
-- done. An event's id names its case.
-- name: load_receipts
select event_id
from notice
where customer_id = any($1::text[]) and template in ('closure.erasing', 'closure.closed')

-- Which of these customers have a closing whose end was not heard of, and of which something was told since a moment.
-- name: load_closing
select distinct customer_id
from (
    select customer_id
    from notice
    where customer_id = any($1::text[]) and created_at > $2 and template like 'closure.%'
    -- What an event is about stands in its id (schemas.closure.event_id).
    group by customer_id, split_part(event_id, '.', 2)
    having bool_and(template <> all($3::text[]))
) as unended

-- What a batch changed of customers.
-- name: update_customers
update customer
set
    is_known = new.is_known,
    locale = new.locale,
    time_zone = new.time_zone,
    tier = new.tier,
    wants_in_app = new.wants_in_app,
    wants_email = new.wants_email,
    wants_sms = new.wants_sms,
    wants_marketing = new.wants_marketing,
    is_unsubscribed = new.is_unsubscribed,
    quiet_from = new.quiet_from,
    quiet_to = new.quiet_to,
    phone_reach = new.phone_reach,
    email_reach = new.email_reach,
    phone_hash = new.phone_hash,
    inbox_count = new.inbox_count,
    contacts = new.contacts,
    erasing = new.erasing,
    erased_at = new.erased_at,
    is_leaving = new.is_leaving
from unnest(
    $1::text[], $2::boolean[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::boolean[], $8::boolean[],
    $9::boolean[], $10::boolean[], $11::time[], $12::time[], $13::text[], $14::text[], $15::bytea[], $16::bigint[],
    $17::bytea[], $18::text[], $19::timestamptz[], $20::boolean[]
) as new (
    customer_id, is_known, locale, time_zone, tier, wants_in_app, wants_email, wants_sms, wants_marketing,
    is_unsubscribed, quiet_from, quiet_to, phone_reach, email_reach, phone_hash, inbox_count, contacts, erasing,
    erased_at, is_leaving
)
where customer.customer_id = new.customer_id

-- What became of notices that were pending.
-- name: move_notices
update notice
set delivery_id = new.delivery_id, status = new.status, why = new.why, told = new.told, ended_at = new.ended_at
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as new (notice_id, delivery_id, status, why, told, ended_at)
where notice.notice_id = new.notice_id and notice.status = 'pending'

-- Forget what notices were about that went on.
-- name: forget_waiting
delete from waiting
where notice_id = any($1::uuid[])

-- Forget what erased customers were told, locked in the order in which they note that they read it. Returns the notices
-- of broadcasts to lists that were among it.
-- name: erase_inboxes
with erased as (
    select customer_id, number, notice_id, notification_id
    from inbox_message
    where customer_id = any($1::text[])
    order by customer_id, number
    for update
),

gone as (
    delete from inbox_message
    using erased
    where inbox_message.customer_id = erased.customer_id and inbox_message.number = erased.number
)

select notice_id
from erased
join broadcast using (notification_id)
where audience_kind = 'customers'

-- Forget what was on its way to erased customers; what a gateway has is still accounted for by its attempts.
-- name: erase_deliveries
delete from delivery
where customer_id = any($1::text[])

-- Forget why attempts at erased customers failed, in so far as it is more than a code: a provider may have said it. They
-- are locked in the order of their ids, as by receipts.
-- name: erase_reasons
with told as (
    select delivery_id, number
    from attempt
    where
        delivery_id in (select notice.delivery_id from notice where notice.customer_id = any($1::text[]))
        and why is not null
    order by delivery_id, number
    for no key update
)

update attempt
set why = null
from told
where attempt.delivery_id = told.delivery_id and attempt.number = told.number

-- Tell the dispatchers, once this is committed, that there is something to deliver.
-- name: wake_dispatchers
notify delivery

-- Tell those who follow inboxes, once this is committed, that something arrived in some, or that some are erased.
-- name: wake_readers
notify inbox

-- Notices of which something became that is not published yet; the columns stand in the order of model.Notice, and the
-- last is the gateway that had it last.
-- name: load_untold_notices
select
    notice_id, event_id, customer_id, channel, role, category, urgency, template, delivery_id, lane_group, partition,
    status, why, told, created_at, ended_at,
    (
        select attempt.gateway
        from attempt
        where attempt.delivery_id = notice.delivery_id
        order by attempt.number desc
        limit 1
    ) as gateway
from notice
where notice_id = any($1::uuid[]) and status <> 'pending' and told is distinct from status
order by notice_id
for no key update

-- What was published of notices.
-- name: mark_told
update notice
set told = new.told
from unnest($1::uuid[], $2::text[]) as new (notice_id, told)
where notice.notice_id = new.notice_id

-- Who moved money with a bank, and when last; what is known already costs no write.
-- name: note_bank_uses
insert into bank_use (bank, customer_id, last_on)
select bank, customer_id, last_on
from unnest($1::text[], $2::text[], $3::date[]) as new (bank, customer_id, last_on)
order by bank, customer_id
on conflict (bank, customer_id) do update
set last_on = excluded.last_on
where bank_use.last_on < excluded.last_on

-- Whose wallets are, and how they stand; a lower version came late and says nothing new. Of a closed wallet that is
-- not known nothing is kept: its holder may be erased; nor of one whose holder is.
-- name: note_wallets
insert into wallet (account_id, customer_id, currency, status, version)
select account_id, customer_id, currency, status, version
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    as new (account_id, customer_id, currency, status, version)
where
    exists (select from wallet where wallet.account_id = new.account_id)
    or (
        status <> 'closed'
        and not exists (
            select from customer
            where customer.customer_id = new.customer_id and erased_at is not null and not is_known
        )
    )
order by account_id
on conflict (account_id) do update
set
    customer_id = excluded.customer_id, currency = excluded.currency, status = excluded.status,
    version = excluded.version
where wallet.version < excluded.version

-- Until when notices are gathered for these customers.
-- name: load_digests
select customer_id, channel, template, closes_at, has_timer
from digest
where customer_id = any($1::text[]) and closes_at > $2

-- Begin to gather, or begin again, or note that the timer is set.
-- name: open_digests
insert into digest (customer_id, channel, template, closes_at, has_timer)
select customer_id, channel, template, closes_at, has_timer
from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::boolean[])
    as new (customer_id, channel, template, closes_at, has_timer)
order by customer_id, channel, template
on conflict (customer_id, channel, template) do update
set closes_at = excluded.closes_at, has_timer = excluded.has_timer

-- Whom these digests are for.
-- name: load_digest_customers
select distinct customer_id
from digest_item
where delivery_id = any($1::uuid[])

-- Take what was gathered for digests, the customers' locks first; the columns before the last stand in the order of
-- model.Notice.
-- name: take_digest_items
with taken as (
    delete from digest_item
    where delivery_id = any($1::uuid[])
    returning notice_id, sealed
)

select
    notice.notice_id, event_id, customer_id, channel, role, category, urgency, template, delivery_id, lane_group,
    partition, status, why, told, created_at, ended_at, taken.sealed
from taken
join notice using (notice_id)
where status = 'pending'
order by created_at, notice.notice_id

-- Forget what was gathered for erased customers, and what would be.
-- name: erase_digest_items
with closed as (
    delete from digest
    where customer_id = any($1::text[])
)

delete from digest_item
where customer_id = any($1::text[])

-- Forget with which banks erased customers moved money, and which wallets were theirs; these are locked in the order of
-- their ids, in which they are noted.
-- name: erase_ties
with owned as (
    select account_id
    from wallet
    where customer_id = any($1::text[])
    order by account_id
    for update
),

wallets as (
    delete from wallet
    using owned
    where wallet.account_id = owned.account_id
)

delete from bank_use
where customer_id = any($1::text[])

-- Gather nothing more for these, whose digests go out: what comes now opens another.
-- name: close_digests
delete from digest
using unnest($1::text[], $2::text[], $3::text[]) as sent (customer_id, channel, template)
where
    digest.customer_id = sent.customer_id
    and digest.channel = sent.channel
    and digest.template = sent.template
    and digest.closes_at <= $4

-- Take note that somebody wants no marketing any more, whatever their profile says.
-- name: unsubscribe
update customer
set is_unsubscribed = true
where customer_id = $1 and not is_unsubscribed
