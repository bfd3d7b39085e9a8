-- Every statement of the dispatcher: each takes or records a whole batch.

-- Fill a gateway's bucket for the time that passed, and lock it; the first call makes it, full.
-- name: fill_allowance
insert into gateway_allowance as allowance (gateway, tokens, at)
values ($1, $2::float8, $4)
on conflict (gateway) do update
set
    tokens = least($2::float8, allowance.tokens + $3::float8 * greatest(0, extract(epoch from $4 - allowance.at))),
    at = greatest(allowance.at, $4)
returning tokens

-- Take out of a gateway's bucket what it was given.
-- name: draw_allowance
update gateway_allowance
set tokens = tokens - $2
where gateway = $1

-- Give a gateway the most urgent messages that are due: of one address one at a time, and none to a number that has had
-- as many as its operator allows. Each is noted as an attempt before it leaves, and a number's in its row, which is
-- locked: whoever gives the same number something at the same moment waits, and counts this one too. What a number may
-- not get yet is due when it may, so that it is not in others' way; the first column says how many that were. A message
-- that this gateway failed with is left to others for a while.
-- name: take_deliveries
with due as (
    select delivery_id, customer_id, priority, due_at, is_marketing
    from delivery
    where
        channel = $2
        and state = 'queued'
        and due_at <= $3
        and (gateway is distinct from $1 or due_at <= $3 - $9::interval)
        and expires_at > $3
        and priority <= $10
        and (
            notification_id is null
            or not exists (
                select
                from broadcast
                where broadcast.notification_id = delivery.notification_id and broadcast.state <> 'running'
            )
        )
    order by priority, due_at
    limit $5
    for update skip locked
),

step (most, within) as (
    values ($6::integer, interval '1 minute'), ($7::integer, interval '1 hour'), ($8::integer, interval '1 day')
),

ranked as (
    select
        due.*,
        customer.contacts,
        customer_key.wrapped_key,
        customer.locale,
        case
            when due.is_marketing and (customer.is_unsubscribed or not customer.wants_marketing) then 'no_consent'
            when $2 = 'sms' then customer.phone_reach
            else customer.email_reach
        end as reach,
        case $2 when 'sms' then customer.phone_hash else '' end as number_hash,
        row_number() over (
            partition by case when $2 = 'sms' and customer.phone_hash <> '' then customer.phone_hash end,
            case when $2 <> 'sms' or customer.phone_hash = '' then due.delivery_id end
            order by due.priority, due.due_at
        )::integer as place
    from due
    join customer using (customer_id)
    left join customer_key using (customer_id)
),

allowed as (
    -- When each may be had at the soonest: the first of a number when the number of messages before it allows, what
    -- comes after as many as are allowed at once a whole time later. A place that is not taken yet counts as now.
    select ranked.*, free.at as free_at
    from ranked
    left join texted_number using (number_hash)
    cross join lateral (
        select max(
            greatest($3, recent[cardinality(recent) + (place - 1) % most + 1 - most] + within)
            + (place - 1) / most * within
        ) as at
        from step
    ) as free
),

put_off as (
    update delivery
    set due_at = allowed.free_at
    from allowed
    where delivery.delivery_id = allowed.delivery_id and allowed.free_at > $3
    returning delivery.delivery_id
),

counted as (
    insert into texted_number as known (number_hash, recent, oldest)
    select number_hash, array[$3], $3
    from allowed
    where number_hash <> '' and place = 1 and free_at <= $3
    order by number_hash
    on conflict (number_hash) do update
    set (recent, oldest) = (
        select array_agg(at order by at), min(at)
        from unnest(known.recent || excluded.recent) as at
        where at > $3 - interval '1 day'
    )
    where not exists (
        select
        from step
        where known.recent[cardinality(known.recent) + 1 - most] > $3 - within
    )
    returning number_hash
),

taken as (
    update delivery
    set state = 'sending', gateway = $1, due_at = $4, attempts = attempts + 1
    from allowed
    left join counted using (number_hash)
    where
        delivery.delivery_id = allowed.delivery_id
        and allowed.place = 1
        and (allowed.number_hash = '' or counted.number_hash is not null)
    returning
        delivery.delivery_id, delivery.customer_id, delivery.attempts, delivery.expires_at, delivery.sealed,
        delivery.notification_id, delivery.is_marketing, delivery.priority, allowed.contacts, allowed.wrapped_key,
        allowed.locale, allowed.reach
),

noted as (
    insert into attempt (delivery_id, number, gateway, started_at)
    select delivery_id, attempts, $1, $3
    from taken
)

select
    put_off_count, delivery_id, attempts, customer_id, expires_at, sealed, notification_id, is_marketing, contacts,
    wrapped_key, locale, reach
from (select count(*) as put_off_count from put_off) as counted_off
left join taken on true
order by priority

-- What gateways said of attempts, as long as nothing was known of them; locked in the order of their ids, because
-- receipts also come of messages that are gone, whose locks nobody holds.
-- name: end_attempts
with ended as (
    select attempt.delivery_id, attempt.number, new.outcome, new.provider_message_id, new.code, new.why
    from attempt
    join unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[])
        as new (delivery_id, number, outcome, provider_message_id, code, why)
        on attempt.delivery_id = new.delivery_id and attempt.number = new.number
    where attempt.outcome is null or attempt.outcome in ('accepted', 'unknown')
    order by attempt.delivery_id, attempt.number
    for no key update of attempt
)

update attempt
set
    outcome = ended.outcome, provider_message_id = ended.provider_message_id, code = ended.code, why = ended.why,
    ended_at = $7
from ended
where attempt.delivery_id = ended.delivery_id and attempt.number = ended.number

-- Lock messages and what stands in for them, in the order of their ids.
-- name: lock_deliveries
select delivery_id, attempts, gateway, state, expires_at
from delivery
where delivery_id = any($1::uuid[]) or stands_in_for = any($1::uuid[])
order by delivery_id
for update

-- How messages go on: queued again, asked later, or awaited.
-- name: move_deliveries
update delivery
set state = new.state, due_at = new.due_at
from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as new (delivery_id, state, due_at)
where delivery.delivery_id = new.delivery_id

-- Messages of which nothing more can become.
-- name: forget_deliveries
delete from delivery
where delivery_id = any($1::uuid[])

-- What became of the notices in messages: forward only, from pending over sent to an end; locked in the order of their
-- ids. Returns those with another status than before that are told of one by one.
-- name: advance_notices
with found as (
    select notice_id, notice.status as status_before, new.status, new.why
    from notice
    join unnest($1::uuid[], $2::text[], $3::text[]) as new (delivery_id, status, why)
        on notice.delivery_id = new.delivery_id
    where
        notice.status = 'pending'
        or (notice.status = 'sent' and new.status in ('delivered', 'failed'))
        or (notice.status = 'sent' and notice.why = 'unknown' and new.status = 'sent' and new.why is null)
    order by notice_id
    for no key update of notice
),

advanced as (
    update notice
    set status = found.status, why = found.why, ended_at = $4
    from found
    where notice.notice_id = found.notice_id
    returning notice.notice_id, lane_group, partition, notice.status, status_before, is_broadcast
)

select notice_id, lane_group, partition, status
from advanced
where status <> status_before and not is_broadcast

-- What stood in for messages that have arrived is not needed; it is locked with these.
-- name: end_stand_ins
with gone as (
    delete from delivery
    where stands_in_for = any($1::uuid[]) and state = 'queued' and attempts = 0
    returning delivery_id
)

update notice
set status = 'suppressed', why = 'not_needed', ended_at = $2
from gone
where notice.delivery_id = gone.delivery_id
returning notice_id, lane_group, partition, status

-- What stands in for messages that have failed goes out now; it is locked with these.
-- name: send_stand_ins
update delivery
set due_at = least(due_at, $2)
where stands_in_for = any($1::uuid[]) and state = 'queued'

-- Receipts that came before the attempts that these are about, locked in the order of their names.
-- name: take_early_receipts
with found as (
    select early_receipt.gateway, early_receipt.provider_message_id
    from early_receipt
    join unnest($1::text[], $2::text[]) as sent (gateway, provider_message_id)
        on early_receipt.gateway = sent.gateway and early_receipt.provider_message_id = sent.provider_message_id
    order by early_receipt.gateway, early_receipt.provider_message_id
    for update of early_receipt
)

delete from early_receipt
using found
where early_receipt.gateway = found.gateway and early_receipt.provider_message_id = found.provider_message_id
returning early_receipt.gateway, early_receipt.provider_message_id, outcome, code, received_at

-- Keep receipts whose attempts are not recorded yet, in the order of their names. Returns those that are new: of the
-- others somebody looks for the attempt already.
-- name: keep_receipts
with kept as (
    insert into early_receipt (gateway, provider_message_id, outcome, code, received_at)
    select gateway, provider_message_id, outcome, code, $5
    from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as new (gateway, provider_message_id, outcome, code)
    order by gateway, provider_message_id
    on conflict (gateway, provider_message_id) do update
    set outcome = excluded.outcome, code = excluded.code
    returning new.gateway, new.provider_message_id, old.gateway is null as is_new
)

select gateway, provider_message_id
from kept
where is_new

-- Receipts that were kept, by the gateway's ids, and since when.
-- name: load_early_receipts
select early_receipt.gateway, early_receipt.provider_message_id, outcome, code, received_at
from early_receipt
join unnest($1::text[], $2::text[]) as wanted (gateway, provider_message_id)
    on early_receipt.gateway = wanted.gateway and early_receipt.provider_message_id = wanted.provider_message_id

-- The attempts that receipts are about: by the gateway's ids, or by our references.
-- name: find_attempts
select receipt.place, delivery_id, number, attempt.gateway
from attempt
join unnest($1::integer[], $2::text[], $3::text[]) as receipt (place, gateway, provider_message_id)
    on attempt.gateway = receipt.gateway and attempt.provider_message_id = receipt.provider_message_id
union all
select receipt.place, attempt.delivery_id, attempt.number, attempt.gateway
from attempt
join unnest($4::integer[], $5::text[], $6::uuid[], $7::integer[]) as receipt (place, gateway, delivery_id, number)
    on
        attempt.delivery_id = receipt.delivery_id
        and attempt.number = receipt.number
        and attempt.gateway = receipt.gateway

-- Messages that are due to be looked after: those whose gateway has not answered in time, of which it is not known
-- whether it has them, or whose receipt has not come. Each is put off, so that nobody else looks after it meanwhile.
-- name: take_overdue
with overdue as (
    select delivery_id, state
    from delivery
    where state not in ('queued', 'held') and due_at <= $1
    order by due_at
    limit $3
    for update skip locked
)

update delivery
set due_at = $2
from overdue
where delivery.delivery_id = overdue.delivery_id
returning delivery.delivery_id, delivery.attempts, delivery.gateway, delivery.state, delivery.expires_at

-- Messages that did not leave in time; not locked, because that is done in the order of their ids.
-- name: find_expired
select delivery_id
from delivery
where state in ('queued', 'held') and expires_at <= $1
order by expires_at
limit $2

-- Use no more an address by which nobody is reached, unless a profile has named another meanwhile; the customers are
-- locked in the order of their ids.
-- name: mark_dead
with locked as (
    select customer.customer_id
    from customer
    join unnest($2::text[], $3::bytea[]) as dead (customer_id, contacts)
        on customer.customer_id = dead.customer_id and customer.contacts = dead.contacts
    order by customer.customer_id
    for update of customer
)

update customer
set
    phone_reach = case when $1 = 'sms' then 'address_dead' else phone_reach end,
    email_reach = case when $1 = 'email' then 'address_dead' else email_reach end
from locked
where customer.customer_id = locked.customer_id
