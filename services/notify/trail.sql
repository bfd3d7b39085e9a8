-- What people were told of one thing. Every statement finds its rows by an index.

-- What an id is the id of, each with the event that it is about.
-- name: know
select 'notice' as kind, event_id as id from notice where notice_id = $1
union all
select 'broadcast', notification_id from broadcast where notification_id = $1::text
union all
select 'request', event_id from announcement where event_id = $1::text

-- Whether anybody was to be told of an event.
-- name: announcement
select event_id, type, accepted, accepted_at, correlation_id
from announcement
where event_id = $1

-- How many notices stand where, of the events whose ids are these.
-- name: count_of_event
select status, count(*) as notices
from notice
where event_id = $1
group by status
order by status

-- The notices of the events whose ids are these or begin with these and a dot, the first to be made first.
-- name: notices_of
select
    notice_id, event_id, customer_id, channel, template, status, why, delivery_id, created_at, ended_at,
    announcement.correlation_id
from unnest($1::text[]) as named (subject)
cross join lateral (
    select *
    from notice
    where
        event_id >= named.subject
        and event_id < named.subject || '/'
        and (event_id = named.subject or starts_with(event_id, named.subject || '.'))
    order by event_id, customer_id, channel
    limit $2
) as found
left join announcement using (event_id)
order by created_at, event_id, customer_id, channel

-- A customer's notices since a moment, the latest first.
-- name: notices_of_customer
select
    notice_id, event_id, customer_id, channel, template, status, why, delivery_id, created_at, ended_at,
    announcement.correlation_id
from notice
left join announcement using (event_id)
where customer_id = $1 and created_at >= $2
order by created_at desc
limit $3

-- name: attempts
select delivery_id, number, gateway, started_at, ended_at, outcome, code, why
from attempt
where delivery_id = any($1::uuid[])
order by delivery_id, number

-- The announcements about a window or a clearance, and how far each has come.
-- name: broadcasts_about
select
    notification_id, broadcast.template, state, is_over, expected, created_at, resolved_at, revision, correlation_id
from broadcast
left join announcement on event_id = notification_id
where about = $1
order by revision

-- name: broadcast
select
    notification_id, broadcast.template, state, is_over, expected, created_at, resolved_at, revision, correlation_id
from broadcast
left join announcement on event_id = notification_id
where notification_id = $1
