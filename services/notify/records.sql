-- What people ask of notices; nothing here changes anything. Notices are chosen by event, by customer, or all.

-- How many notices stand where.
-- name: count_notices
select
    count(*) as accepted,
    count(*) filter (where status = 'delivered') as delivered,
    count(*) filter (where status = 'sent') as sent,
    count(*) filter (where status = 'failed') as failed,
    count(*) filter (where status = 'suppressed') as suppressed,
    count(*) filter (where status = 'pending') as pending
from notice
where ($1::text is null or event_id = $1) and ($2::text is null or customer_id = $2)

-- For how many notices an event, or all events, were accepted.
-- name: count_accepted
select coalesce(sum(accepted), 0)::bigint
from announcement
where $1::text is null or event_id = $1

-- The latest notices, with every attempt of each.
-- name: list_notices
select
    notice.notice_id, event_id, customer_id, channel, template, category, urgency, status, notice.why,
    notice.created_at, notice.ended_at,
    coalesce(
        (
            select
                json_agg(
                    json_build_object(
                        'number', number, 'gateway', gateway, 'started_at', started_at, 'ended_at', attempt.ended_at,
                        'outcome', outcome, 'provider_message_id', provider_message_id, 'code', code,
                        'why', attempt.why
                    )
                    order by number
                )
            from attempt
            where attempt.delivery_id = notice.delivery_id
        ),
        '[]'
    ) as attempts
from notice
where ($1::text is null or event_id = $1) and ($2::text is null or customer_id = $2)
order by notice.created_at desc, notice.notice_id
limit $3

-- How a broadcast goes, and how many people it has reached.
-- name: look_at_broadcast
select
    case when is_over and state <> 'cancelled' then 'finished' else state end as state,
    (
        select count(distinct customer_id)
        from notice
        where event_id = notification_id
    ) as reached,
    expected
from broadcast
where notification_id = $1

-- How many events concerned somebody, and how many notices that made.
-- name: count_audited
select (select count(*) from announcement) as events, (select count(*) from notice) as notices

-- The audit. Each of the following returns the rows that break one rule: none, when all is well.

-- name: audit_accepted
select event_id, announcement.accepted, coalesce(counted.notices, 0) as notices
from announcement
left join (select event_id, count(*) as notices from notice group by event_id) as counted using (event_id)
where announcement.accepted <> coalesce(counted.notices, 0)
limit 100

-- name: audit_unannounced
select event_id, count(*) as notices
from notice
where not exists (select from announcement where announcement.event_id = notice.event_id)
group by event_id
limit 100

-- A notice is pending because it waits for a profile, is gathered, or because its message is on its way.
-- name: audit_pending
select notice_id, channel, why, created_at
from notice
where
    status = 'pending'
    and not exists (select from waiting where waiting.notice_id = notice.notice_id)
    and not exists (select from delivery where delivery.delivery_id = notice.delivery_id)
    and not exists (select from digest_item where digest_item.notice_id = notice.notice_id)
limit 100

-- name: audit_deliveries
select delivery_id, channel, state, due_at
from delivery
where not exists (
    select from notice where notice.delivery_id = delivery.delivery_id and notice.status in ('pending', 'sent')
)
limit 100

-- A message is said to be with a gateway, or to have arrived, only after an attempt.
-- name: audit_attempts
select notice_id, channel, status
from notice
where
    channel <> 'in_app'
    and status in ('sent', 'delivered')
    and not exists (select from attempt where attempt.delivery_id = notice.delivery_id)
limit 100

-- name: audit_parked_timers
select kind, subject, due_at, failure
from timer
where parked_at is not null
limit 100

-- For how many notices the events were accepted whose ids begin with each of these and a dot.
-- name: count_announced
select
    named.subject,
    coalesce(
        (
            select sum(accepted)
            from announcement
            where event_id >= named.subject || '.' and event_id < named.subject || '/'
        ),
        0
    )::bigint as accepted
from unnest($1::text[]) as named (subject)
