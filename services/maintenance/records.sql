-- What people ask of windows. Nothing here changes anything.

-- Windows, the latest to start first, with what people said of them and what they got.
-- name: list_windows
select
    maintenance_window.window_id,
    status,
    revision,
    plan,
    starts_at,
    ends_at,
    occurred_at,
    answer_by,
    (
        select max(window_step.occurred_at)
        from window_step
        where
            window_step.window_id = maintenance_window.window_id
            and window_step.type in ('window.ended', 'window.cancelled')
    ) as over_at,
    (
        select count(*)
        from survey_answer
        where survey_answer.window_id = maintenance_window.window_id
    ) as survey_answers,
    (
        select round(avg(score), 2)
        from survey_answer
        where survey_answer.window_id = maintenance_window.window_id
    ) as survey_score,
    (
        select count(*)
        from affected_customer
        where affected_customer.window_id = maintenance_window.window_id and granted_at is not null
    ) as compensated,
    (
        select coalesce(sum(used), 0)::bigint
        from affected_customer
        where affected_customer.window_id = maintenance_window.window_id
    ) as compensation_used
from maintenance_window
where $1::uuid is null or maintenance_window.window_id = $1
order by starts_at desc, maintenance_window.window_id
limit $2

-- Windows that are to come or not over yet, rehearsals aside: what customers are told of.
-- name: list_open
select status, starts_at, ends_at, plan
from maintenance_window
where status not in ('ended', 'cancelled') and not (plan ->> 'drill')::boolean
order by starts_at, window_id

-- Windows that close something now.
-- name: list_in_force
select
    window_id,
    array(select jsonb_array_elements_text(plan -> 'functions')) as functions,
    array(select jsonb_array_elements_text(plan -> 'scope' -> 'banks')) as banks
from maintenance_window
where status in ('started', 'extended', 'overrun') and not (plan ->> 'drill')::boolean
order by starts_at, window_id

-- What was said of a window, in order.
-- name: list_steps
select revision, type, status, occurred_at, body
from window_step
where window_id = $1
order by revision

-- The audit. Each of the following returns the rows that break one rule: none, when all is well.

-- name: count_audited
select (select count(*) from maintenance_window) as windows

-- Each window has every one of its events, numbered from 1.
-- name: audit_steps
select maintenance_window.window_id, maintenance_window.revision, count(window_step.revision) as steps
from maintenance_window
left join window_step on window_step.window_id = maintenance_window.window_id
group by maintenance_window.window_id
having
    maintenance_window.revision <> count(window_step.revision)
    or maintenance_window.revision <> max(window_step.revision)
limit 100

-- A window that is not over has a timer that takes it on; one that has overrun waits for a person.
-- name: audit_timers
select window_id, status, starts_at, ends_at
from maintenance_window
where
    status in ('scheduled', 'started', 'extended')
    and not exists (
        select from timer
        where
            timer.subject = maintenance_window.window_id::text
            and timer.parked_at is null
            and timer.kind = case maintenance_window.status when 'scheduled' then 'start' else 'end' end
    )
limit 100

-- Whoever a window that is over owes something has it, or will have it at once.
-- name: audit_compensation
select affected_customer.window_id, count(*) as customers
from affected_customer
join maintenance_window on maintenance_window.window_id = affected_customer.window_id
where
    granted_at is null
    and maintenance_window.status in ('ended', 'cancelled')
    and not exists (
        select from timer
        where
            timer.kind = 'grant'
            and split_part(timer.subject, '/', 1) = affected_customer.window_id::text
            and timer.parked_at is null
    )
group by affected_customer.window_id
limit 100

-- Timers that failed and wait for a person.
-- name: audit_parked_timers
select kind, subject, due_at, parked_at, failure
from timer
where parked_at is not null
limit 100
