-- What is said of notices carries on what their event followed from.

alter table announcement
    add column correlation_id text,
    add column traceparent text;
