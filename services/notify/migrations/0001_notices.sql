-- Who is told what: customers as far as notices need them, the events that concerned somebody, their notices, and
-- people's inboxes.

-- A customer from their latest profile. Without one there is a row all the same, at which notices wait: whoever
-- brings a profile locks it, and so sees every notice that waits.
create table customer (
    customer_id  text collate "C" primary key,
    is_known     boolean not null default false,
    locale       text not null default 'zh-CN',
    time_zone    text not null default 'Asia/Shanghai',
    wants_in_app boolean not null default true,
    inbox_count  bigint not null default 0,
    constraint customer_locale_is_known check (locale in ('zh-CN', 'en')),
    constraint customer_inbox_count_is_not_negative check (inbox_count >= 0)
);

-- An event that concerned somebody, and for how many notices it was accepted.
create table announcement (
    event_id    text collate "C" primary key,
    type        text not null,
    accepted    integer not null,
    accepted_at timestamptz not null,
    constraint announcement_is_to_somebody check (accepted > 0)
);

-- One event told to one person on one channel: never twice.
create table notice (
    notice_id   uuid primary key,
    event_id    text collate "C" not null,
    customer_id text collate "C" not null,
    channel     text not null,
    role        text not null,
    category    text not null,
    urgency     text not null,
    status      text not null,
    why         text,
    created_at  timestamptz not null,
    ended_at    timestamptz,
    constraint notice_is_told_once unique (event_id, customer_id, channel),
    constraint notice_channel_is_known check (channel in ('in_app')),
    constraint notice_status_is_known check (status in ('pending', 'sent', 'delivered', 'failed', 'suppressed')),
    constraint notice_waits_until_it_ends check ((status = 'pending') = (ended_at is null)),
    constraint notice_says_why check ((status in ('pending', 'failed', 'suppressed')) = (why is not null))
)
with (fillfactor = 90);
create index notice_of_customer on notice (customer_id, created_at);
create index notice_pending on notice (customer_id) where status = 'pending';

-- The event of a notice that waits, to be told later; gone once the notice has ended.
create table waiting (
    notice_id uuid primary key references notice,
    type      text not null,
    body      bytea not null
);

-- What a person reads in the app, numbered from 1.
create table inbox_message (
    customer_id text collate "C" not null,
    number      bigint not null,
    notice_id   uuid not null unique references notice,
    locale      text not null,
    title       text not null,
    body        text not null,
    arrived_at  timestamptz not null,
    primary key (customer_id, number)
);
