-- Applications to have a wallet or loan that was closed opened again, with their latest event. Nothing of what applicants
-- say is kept: it is compared at once. `case_id` is the closing that an application is about.
create table reopening (
    request_id     uuid primary key,
    content_hash   bytea not null,
    subject        text collate "C" not null,
    received_at    timestamptz not null,
    customer_id    text collate "C",
    case_id        uuid references closing_case,
    correlation_id text,
    traceparent    text,
    status         text not null,
    revision       integer not null,
    event_type     text not null,
    event_body     bytea not null,
    occurred_at    timestamptz,
    expires_at     timestamptz,
    constraint reopening_status_is_known check (status in ('assessing', 'reopening', 'reopened', 'refused')),
    constraint reopening_is_of_a_closing
        check (status = 'refused' or (case_id is not null and customer_id is not null)),
    constraint reopening_waits_for_an_assessment_within_a_time
        check ((expires_at is not null) = (status = 'assessing'))
);
create unique index one_reopening_a_subject on reopening (subject) where status in ('assessing', 'reopening');
create unique index closing_is_undone_once on reopening (case_id) where status = 'reopened';
create index reopening_of_customer on reopening (customer_id) where status <> 'refused';

-- Cases whose customers could not be forgotten yet.
create index deferred_case_of_customer on closing_case (customer_id) where erasure = 'deferred';
-- The closings of a subject that came to their end, the latest first.
create index closed_case_of_subject on closing_case (subject, ended_at) where status = 'closed';
