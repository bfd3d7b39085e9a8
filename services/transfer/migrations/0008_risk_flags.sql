-- Risk flags: until when which rule restricts what a customer sends. An internal restriction, and no credit record.

create table risk_flag (
    customer_id text collate "C" not null,
    rule        text collate "C" not null,
    until       timestamptz not null,
    primary key (customer_id, rule)
);
create index risk_flag_ends on risk_flag (until);
