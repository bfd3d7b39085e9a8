-- Every statement of broadcasts. A chunk of an audience costs two, whatever its size.

-- Which of these are known already, with a hash of what was asked for.
-- name: load_hashes
select event_id, content_hash
from announcement
where event_id = any($1::text[])

-- name: insert_targets
insert into broadcast_target (notification_id, customer_id)
select notification_id, customer_id
from unnest($1::text[], $2::text[]) as listed (notification_id, customer_id)
order by notification_id, customer_id
on conflict do nothing

-- Whose these wallets are, for a broadcast about them.
-- name: insert_holders
insert into broadcast_target (notification_id, customer_id)
select notification_id, customer_id
from unnest($1::text[], $2::text[]) as named (notification_id, account_id)
join wallet using (account_id)
order by notification_id, customer_id
on conflict do nothing

-- A broadcast, locked; the columns stand in the order of model.Broadcast.
-- name: lock_broadcast
select
    notification_id, content_hash, template, category, channels, audience_kind, audience_values, currencies, about,
    revision, texts, not_before, expires_at, state, reached, expected, resolved_at, progress_at, is_over, created_at
from broadcast
where notification_id = $1
for update

-- Lock broadcasts, in the order of their ids.
-- name: lock_broadcasts
select notification_id
from broadcast
where notification_id = any($1::text[])
order by notification_id
for update

-- Pause, resume or cancel broadcasts that are locked and not over; a cancelled one stays so. Returns which that changed.
-- name: set_states
update broadcast
set state = $2, resolved_at = case $2 when 'cancelled' then coalesce(resolved_at, $3) else resolved_at end
where notification_id = any($1::text[]) and not is_over and state not in ('cancelled', $2)
returning notification_id

-- How many messages of a broadcast a gateway could take now, as far as it matters.
-- name: count_queued
select count(*)
from (select from delivery where notification_id = $1 and state = 'queued' and due_at <= $3 limit $2) as queued

-- How many people a broadcast will reach, about.
-- name: expect_customers
select count(*)
from customer
where is_known and ($1 <> 'tier' or tier = any($2::text[])) and ($1 <> 'locale' or locale = any($2::text[]))

-- name: expect_bank
select count(distinct customer_id)
from bank_use
where
    bank = any($1::text[])
    and last_on >= $2
    and (
        cardinality($3::text[]) = 0
        or exists (
            select
            from wallet
            where wallet.customer_id = bank_use.customer_id and status <> 'closed' and currency = any($3::text[])
        )
    )

-- name: expect_holders
select count(distinct customer_id)
from wallet
join customer using (customer_id)
where is_known and status = any($1::text[]) and (cardinality($2::text[]) = 0 or currency = any($2::text[]))

-- name: expect_listed
select count(*)
from broadcast_target
where notification_id = $1

-- name: note_expected
update broadcast
set expected = $2
where notification_id = $1

-- The next of everybody, of a tier or of a language, locked in the order of their ids.
-- name: choose_customers
select customer_id, true
from customer
where
    customer_id > $1
    and is_known
    and ($3 <> 'tier' or tier = any($4::text[]))
    and ($3 <> 'locale' or locale = any($4::text[]))
order by customer_id
limit $2
for update

-- The next of those who moved money with one of these banks, and have a wallet in one of the currencies, if any.
-- name: choose_bank
select customer.customer_id, true
from (
    select distinct customer_id
    from bank_use
    where
        bank = any($3::text[])
        and last_on >= $4
        and customer_id > $1
        and (
            cardinality($5::text[]) = 0
            or exists (
                select
                from wallet
                where wallet.customer_id = bank_use.customer_id and status <> 'closed' and currency = any($5::text[])
            )
        )
    order by customer_id
    limit $2
) as chosen
join customer using (customer_id)
order by customer.customer_id
for update of customer

-- The next of those who have a wallet that stands like this, in one of the currencies, if any.
-- name: choose_holders
select customer_id, true
from customer
where
    customer_id > $1
    and is_known
    and exists (
        select
        from wallet
        where
            wallet.customer_id = customer.customer_id
            and status = any($3::text[])
            and (cardinality($4::text[]) = 0 or currency = any($4::text[]))
    )
order by customer_id
limit $2
for update

-- The next of those who were listed, and whether they are locked: who is not is accounted for as suppressed, also where
-- their profile comes just now.
-- name: choose_listed
with chosen as (
    select customer_id
    from broadcast_target
    where notification_id = $3 and customer_id > $1
    order by customer_id
    limit $2
),

locked as (
    select customer.customer_id
    from customer
    join chosen using (customer_id)
    order by customer.customer_id
    for update of customer
)

select chosen.customer_id, locked.customer_id is not null
from chosen
left join locked using (customer_id)
order by chosen.customer_id

-- Make the notices of a chunk: told in the app, queued for a gateway, or suppressed or failed with the reason. Returns
-- how many there are, are queued, and are in inboxes.
-- name: announce
with person as (
    select
        listed.customer_id,
        channel,
        coalesce(is_known, false) as is_known,
        locale,
        phone_reach,
        case
            when is_leaving or (not coalesce(is_known, false) and erased_at is not null) then 'erased'
            when not coalesce(is_known, false) then 'profile_missing'
            when $4 = 'marketing' and (is_unsubscribed or not wants_marketing) then 'no_consent'
            when
                $4 <> 'security'
                and not case channel
                    when 'sms' then wants_sms
                    when 'email' then wants_email
                    else wants_in_app or not (wants_sms or wants_email)
                end
                then 'channel_off'
            when channel = 'sms' and phone_reach <> 'good' then phone_reach
            when channel = 'email' and email_reach <> 'good' then email_reach
        end as why_not,
        case
            -- In the night a person's day ends their quiet hours; what is for security does not wait.
            when channel = 'in_app' or $4 = 'security' or quiet_from is null then $6::timestamptz
            when
                case
                    when quiet_from < quiet_to then local.at >= quiet_from and local.at < quiet_to
                    else local.at >= quiet_from or local.at < quiet_to
                end
                then (local.day + case when local.at >= quiet_to then 1 else 0 end + quiet_to) at time zone time_zone
            else $6::timestamptz
        end as due_at
    from unnest($2::text[], $10::boolean[]) as listed (customer_id, is_locked)
    cross join unnest($5::text[]) as channel
    left join customer on listed.is_locked and customer.customer_id = listed.customer_id
    left join lateral (
        select ($6::timestamptz at time zone time_zone)::time as at, ($6::timestamptz at time zone time_zone)::date as day
    ) as local on true
),

timely as (
    -- What a night puts off beyond its time is of no use in the morning.
    select
        person.*,
        case when why_not is not null then 'suppressed' when due_at >= $9 then 'failed' end as never,
        case when why_not is not null then why_not when due_at >= $9 then 'expired' end as why_never
    from person
),

added as (
    insert into notice (
        notice_id, event_id, customer_id, channel, role, category, urgency, template, delivery_id, lane_group,
        partition, status, why, told, is_broadcast, created_at, ended_at
    )
    select
        id, $1, customer_id, channel, 'recipient', $4, case $4 when 'security' then 'urgent' else 'normal' end, $3,
        case when never is null and channel <> 'in_app' then id end, $7, $8,
        coalesce(never, case channel when 'in_app' then 'delivered' else 'pending' end),
        case
            when never is not null then why_never
            when channel <> 'in_app' then case when due_at > $6 then 'quiet_hours' else 'queued' end
        end,
        null, true, $6, case when never is not null or channel = 'in_app' then $6 end
    from timely
    cross join lateral (select md5($1 || chr(10) || customer_id || chr(10) || channel)::uuid as id) as named
    on conflict (event_id, customer_id, channel) do nothing
    returning notice_id, customer_id, channel, status
),

numbered as (
    update customer
    set inbox_count = inbox_count + 1
    from added
    where customer.customer_id = added.customer_id and added.channel = 'in_app' and added.status = 'delivered'
    returning customer.customer_id, inbox_count, notice_id, locale
),

put_in as (
    insert into inbox_message (customer_id, number, notice_id, locale, notification_id, arrived_at)
    select customer_id, inbox_count, notice_id, locale, $1, $6
    from numbered
),

queued as (
    insert into delivery (
        delivery_id, customer_id, channel, priority, due_at, expires_at, is_marketing, notification_id
    )
    select
        notice_id, customer_id, channel, case $4 when 'security' then 1 else 2 end, due_at, $9, $4 = 'marketing', $1
    from added
    join timely using (customer_id, channel)
    where status = 'pending'
)

select
    count(*) as accepted,
    count(*) filter (where status = 'pending') as queued,
    count(*) filter (where channel = 'in_app' and status = 'delivered') as put_in
from added

-- Note how far a broadcast has got, and for how many more notices it was accepted.
-- name: move_on
with accepted as (
    update announcement
    set accepted = accepted + $4
    where event_id = $1
)

update broadcast
set reached = $2, resolved_at = $3
where notification_id = $1

-- name: note_progress
update broadcast
set progress_at = $2, is_over = $3
where notification_id = $1

-- Have one transaction at a time tell of a window or clearance, before anything is locked: so nothing new is told of it
-- between the locks and what is cancelled.
-- name: lock_abouts
select pg_advisory_xact_lock(hashtextextended(about, 0))
from (select distinct about from unnest($1::text[]) as asked (about) order by about) as ordered

-- Lock what is still told of these windows and clearances, in the order of the broadcasts' ids.
-- name: lock_about
select
from broadcast
where about = any($1::text[]) and not is_over
order by notification_id
for update

-- Cancel what is still told of these, where something of a higher revision is told or was; it is locked or new.
-- name: cancel_outdated
update broadcast
set state = 'cancelled', resolved_at = coalesce(resolved_at, $2)
where
    about = any($1::text[])
    and not is_over
    and state <> 'cancelled'
    and exists (
        select
        from broadcast as newer
        where newer.about = broadcast.about and newer.revision > broadcast.revision
    )

-- Do to what waits of broadcasts what their states ask for: take it back, give it again, or end it. It is locked in the
-- order of its ids, of all of them.
-- name: apply_states
with changed as (
    select delivery_id, broadcast.state as asked
    from delivery
    join broadcast using (notification_id)
    where
        notification_id = any($1::text[])
        and (
            (delivery.state = 'queued' and broadcast.state = 'paused')
            or (delivery.state = 'held' and broadcast.state = 'running')
            or (delivery.state in ('queued', 'held') and broadcast.state = 'cancelled')
        )
    order by delivery_id
    for update of delivery
),

moved as (
    update delivery
    set state = case asked when 'paused' then 'held' else 'queued' end
    from changed
    where delivery.delivery_id = changed.delivery_id and asked <> 'cancelled'
),

gone as (
    delete from delivery
    using changed
    where delivery.delivery_id = changed.delivery_id and asked = 'cancelled'
    returning delivery.delivery_id
)

update notice
set status = 'suppressed', why = 'cancelled', ended_at = $2
from gone
where notice.delivery_id = gone.delivery_id

-- Count where the notices of the broadcasts that go on stand; beside the consumer, because a million take a second. The
-- purge removes counts in the same order.
-- name: count_broadcasts
insert into broadcast_count (
    notification_id, accepted, delivered, sent, failed, suppressed, pending, out, counted_at
)
select
    broadcast.notification_id, count(notice_id), count(*) filter (where status = 'delivered'),
    count(*) filter (where status = 'sent'), count(*) filter (where status = 'failed'),
    count(*) filter (where status = 'suppressed'), count(*) filter (where status = 'pending'),
    (select count(*) from delivery where delivery.notification_id = broadcast.notification_id), $1
from broadcast
left join notice on event_id = broadcast.notification_id
where not broadcast.is_over and pg_try_advisory_xact_lock(hashtextextended('sluice.notify.count', 0))
group by broadcast.notification_id
order by broadcast.notification_id
on conflict (notification_id) do update
set
    accepted = excluded.accepted, delivered = excluded.delivered, sent = excluded.sent, failed = excluded.failed,
    suppressed = excluded.suppressed, pending = excluded.pending, out = excluded.out, counted_at = excluded.counted_at
where broadcast_count.counted_at <= excluded.counted_at

-- Where a broadcast's notices stood when they were counted, and whether they were all counted.
-- name: load_counts
select
    broadcast_count.accepted, delivered, sent, failed, suppressed, pending, out, counted_at,
    broadcast_count.accepted = announcement.accepted, correlation_id, traceparent
from broadcast_count
join announcement on event_id = notification_id
where notification_id = $1

-- The broadcasts to lists that these notices told, locked in the order of their ids: whoever ends one and whoever was
-- told of it and is erased see what the other did.
-- name: lock_told
select notification_id
from broadcast
where
    notification_id in (select event_id from notice where notice_id = any($1::uuid[]))
    and audience_kind = 'customers'
order by notification_id
for update

-- Forget the words of broadcasts that are over and that nobody has in their inbox.
-- name: forget_texts
update broadcast
set texts = null
where
    notification_id = any($1::text[])
    and is_over
    and not exists (select from inbox_message where inbox_message.notification_id = broadcast.notification_id)

-- Forget whom a broadcast was to reach.
-- name: forget_targets
delete from broadcast_target
where notification_id = $1

-- What people read, of these broadcasts.
-- name: load_texts
select notification_id, texts
from broadcast
where notification_id = any($1::text[])
