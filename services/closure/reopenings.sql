-- Every statement about applications to come back. Their customers are locked before.

-- Applications with these ids, those of these customers that have not ended or opened a loan that is open still, and
-- those that undid these closings; in the order of model.Reopening.
-- name: load_reopenings
select
    request_id, content_hash, subject, received_at, customer_id, case_id, correlation_id, traceparent, status, revision,
    event_type, event_body, occurred_at, expires_at
from reopening
where request_id in (
    select request_id from reopening where request_id = any($1::uuid[])
    union
    select request_id from reopening
    where customer_id = any($2::text[]) and status in ('assessing', 'reopening')
    union
    select request_id from reopening
    where
        customer_id = any($2::text[])
        and status = 'reopened'
        and subject like 'loan:%'
        and not exists (
            select from closing_case
            where
                closing_case.subject = reopening.subject
                and closing_case.status = 'closed'
                and closing_case.ended_at > reopening.occurred_at
        )
    union
    select request_id from reopening where case_id = any($3::uuid[]) and status = 'reopened'
)
order by request_id
for update

-- New applications, and what a batch changed of others; in the order in which they come, as a subject has one that waits.
-- name: upsert_reopenings
insert into reopening (
    request_id, content_hash, subject, received_at, customer_id, case_id, correlation_id, traceparent, status, revision,
    event_type, event_body, occurred_at, expires_at
)
select *
from unnest(
    $1::uuid[], $2::bytea[], $3::text[], $4::timestamptz[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::text[],
    $10::integer[], $11::text[], $12::bytea[], $13::timestamptz[], $14::timestamptz[]
)
on conflict (request_id) do update
set
    status = excluded.status,
    revision = excluded.revision,
    event_type = excluded.event_type,
    event_body = excluded.event_body,
    occurred_at = excluded.occurred_at,
    expires_at = excluded.expires_at
