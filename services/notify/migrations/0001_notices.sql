-- Who is told what: customers as far as notices need them, the events that concerned somebody, their notices, what
-- of them has to leave through a gateway, each attempt at it, and people's inboxes.

-- A customer from their latest profile. Without one there is a row all the same, at which notices wait: whoever
-- brings a profile locks it, and so sees every notice that waits. Everything personal is encrypted under the
-- customer's key, which the master key wraps; erasing destroys the key.
-- `erasing` is what asked for an erasure that still waits for the receipt of a closing to leave.
create table customer (
    customer_id     text collate "C" primary key,
    is_known        boolean not null default false,
    locale          text not null default 'zh-CN',
    time_zone       text not null default 'Asia/Shanghai',
    tier            text not null default 'standard',
    wants_in_app    boolean not null default true,
    wants_email     boolean not null default true,
    wants_sms       boolean not null default true,
    wants_marketing boolean not null default false,
    is_unsubscribed boolean not null default false,
    quiet_from      time,
    quiet_to        time,
    phone_reach     text not null default 'no_address',
    email_reach     text not null default 'no_address',
    phone_hash      bytea not null default '',
    inbox_count     bigint not null default 0,
    contacts        bytea,
    wrapped_key     bytea,
    erasing         text,
    constraint customer_erasing_is_known check (erasing in ('profile', 'request')),
    constraint customer_locale_is_known check (locale in ('zh-CN', 'en')),
    constraint customer_quiet_hours_have_both_ends check ((quiet_from is null) = (quiet_to is null)),
    constraint customer_reach_is_known check (
        phone_reach in ('good', 'no_address', 'unverified', 'address_invalid', 'address_dead')
        and email_reach in ('good', 'no_address', 'unverified', 'address_invalid', 'address_dead')
    ),
    constraint customer_inbox_count_is_not_negative check (inbox_count >= 0),
    constraint customer_contacts_have_a_key check (contacts is null or wrapped_key is not null),
    constraint customer_is_known_by_a_key check (not is_known or wrapped_key is not null)
);

-- An event or a request that concerned somebody, and for how many notices it was accepted; of a request, a hash of
-- what was asked for.
create table announcement (
    event_id    text collate "C" primary key,
    type        text not null,
    accepted    bigint not null,
    accepted_at timestamptz not null,
    content_hash bytea,
    constraint announcement_accepted_is_not_negative check (accepted >= 0)
);
create index announcement_oldest on announcement (accepted_at);

-- One event told to one person on one channel: never twice. What leaves through a gateway has a delivery; a digest is
-- one delivery of several notices. `told` is the last status that was published of it.
create table notice (
    notice_id   uuid primary key,
    event_id    text collate "C" not null,
    customer_id text collate "C" not null,
    channel     text not null,
    role        text not null,
    category    text not null,
    urgency     text not null,
    template    text not null,
    delivery_id uuid,
    lane_group  text collate "C" not null,
    partition   integer not null,
    status      text not null,
    why         text,
    told        text,
    is_broadcast boolean not null default false,
    created_at  timestamptz not null,
    ended_at    timestamptz,
    constraint notice_is_told_once unique (event_id, customer_id, channel),
    constraint notice_channel_is_known check (channel in ('in_app', 'email', 'sms')),
    constraint notice_status_is_known check (status in ('pending', 'sent', 'delivered', 'failed', 'suppressed')),
    constraint notice_waits_until_it_ends check ((status = 'pending') = (ended_at is null)),
    -- A reason is one that the contract has a word for, in that status; that something waits is only said here.
    constraint notice_says_why check (
        case status
            when 'pending' then coalesce(
                why in ('profile_missing', 'queued', 'quiet_hours', 'scheduled', 'digest', 'standby'), false
            )
            when 'sent' then coalesce(why = 'unknown', true)
            when 'delivered' then why is null
            when 'failed' then coalesce(
                why in ('expired', 'rejected', 'undelivered', 'gateway_failed', 'untellable'), false
            )
            when 'suppressed' then coalesce(
                why in (
                    'profile_missing', 'channel_off', 'no_consent', 'no_address', 'unverified', 'address_invalid',
                    'address_dead', 'erased', 'not_needed', 'cancelled'
                ),
                false
            )
        end
    ),
    constraint notice_leaves_by_a_delivery check (channel = 'in_app' or status in ('pending', 'suppressed', 'failed') or delivery_id is not null)
)
with (fillfactor = 80);
-- No index knows the status: what becomes of a notice is written into its page and nowhere else.
create index notice_of_customer on notice (customer_id, created_at);
create index notice_of_delivery on notice (delivery_id) where delivery_id is not null;

-- The event of a notice that waits for a profile, to be told later; gone once the notice goes on.
create table waiting (
    notice_id   uuid primary key references notice,
    customer_id text collate "C" not null,
    event_id    text collate "C" not null,
    sealed      bytea not null
);
create index waiting_of_customer on waiting (customer_id);
create index waiting_of_event on waiting (event_id);

-- Until when notices of one kind are gathered for one person, into the message that then goes out, and whether a timer
-- is set for it: with the first that is gathered.
create table digest (
    customer_id text collate "C" not null,
    channel     text not null,
    template    text not null,
    closes_at   timestamptz not null,
    has_timer   boolean not null,
    primary key (customer_id, channel, template)
);

-- What a digest will list; gone once it is on its way.
create table digest_item (
    notice_id   uuid primary key references notice,
    delivery_id uuid not null,
    customer_id text collate "C" not null,
    sealed      bytea not null
);
create index digest_item_of_delivery on digest_item (delivery_id);
create index digest_item_of_customer on digest_item (customer_id);

-- A message on its way: gone once nothing can become of it any more.
--   queued    may be taken from `due_at` on
--   held      its broadcast is paused
--   sending   given to a gateway that has not answered; from `due_at` on the answer counts as lost
--   unknown   it is not known whether the gateway has it; asked from `due_at` on
--   awaiting  the gateway has it; from `due_at` on it is asked for what a receipt should have said
-- What is queued is due by the services' clock, everything else by the world's, in which gateways answer.
create table delivery (
    delivery_id uuid primary key,
    customer_id text collate "C" not null,
    channel     text not null,
    priority    smallint not null,
    state       text not null default 'queued',
    due_at      timestamptz not null,
    expires_at  timestamptz not null,
    attempts    integer not null default 0,
    gateway     text,
    stands_in_for uuid,
    is_marketing boolean not null default false,
    sealed      bytea,
    notification_id text collate "C",
    constraint delivery_state_is_known check (state in ('queued', 'held', 'sending', 'unknown', 'awaiting')),
    constraint delivery_names_its_gateway check (state in ('queued', 'held') or gateway is not null),
    constraint delivery_has_words check ((sealed is null) <> (notification_id is null))
)
with (fillfactor = 70);
create index delivery_queued on delivery (channel, priority, due_at) where state = 'queued';
create index delivery_out on delivery (due_at) where state not in ('queued', 'held');
create index delivery_expiring on delivery (expires_at) where state in ('queued', 'held');
create index delivery_stands_in on delivery (stands_in_for) where stands_in_for is not null;
create index delivery_of_broadcast on delivery (notification_id) where notification_id is not null;
create index delivery_of_customer on delivery (customer_id);

-- Each handing over of a message to a gateway, and what became of it there; no outcome while it is not known.
create table attempt (
    delivery_id         uuid not null,
    number              integer not null,
    gateway             text not null,
    started_at          timestamptz not null,
    ended_at            timestamptz,
    outcome             text,
    provider_message_id text,
    code                text,
    why                 text,
    primary key (delivery_id, number),
    constraint attempt_outcome_is_known check (
        outcome in ('accepted', 'delivered', 'temporary', 'permanent', 'technical', 'unknown', 'absent', 'unusable', 'expired')
    ),
    constraint attempt_ends_with_an_outcome check ((outcome is null) = (ended_at is null)),
    constraint attempt_keeps_few_words check (length(why) <= 400 and length(code) <= 40)
)
with (fillfactor = 80);
create index attempt_of_provider on attempt (gateway, provider_message_id) where provider_message_id is not null;

-- A receipt that came before its attempt was recorded: whoever records the attempt looks here.
create table early_receipt (
    gateway             text not null,
    provider_message_id text not null,
    outcome             text not null,
    code                text,
    received_at         timestamptz not null,
    primary key (gateway, provider_message_id)
);

-- When a number was given text messages in the latest day, in order; a keyed hash stands for the number, and nothing says
-- whose it is. Whoever gives it another locks its row, so that no more than operators allow are given, whoever gives
-- them. What is older than a day goes: when the number is given another, or by the purge, which looks at `oldest`.
create table texted_number (
    number_hash bytea primary key,
    recent      timestamptz[] not null,
    oldest      timestamptz not null,
    constraint texted_number_is_one check (number_hash <> ''),
    constraint texted_number_knows_its_oldest check (coalesce(oldest = recent[1], false))
)
with (fillfactor = 80);
create index texted_number_oldest on texted_number (oldest);

-- How many messages a gateway may still be given just now: a bucket that fills at its rate.
create table gateway_allowance (
    gateway text primary key,
    tokens  double precision not null,
    at      timestamptz not null
);

-- What a person reads in the app, numbered from 1; title and body are encrypted under the customer's key,
-- or those of a broadcast, which everybody reads.
create table inbox_message (
    customer_id text collate "C" not null,
    number      bigint not null,
    notice_id   uuid not null unique references notice,
    locale      text not null,
    sealed      bytea,
    notification_id text collate "C",
    arrived_at  timestamptz not null,
    read_at     timestamptz,
    primary key (customer_id, number),
    constraint inbox_message_has_words check ((sealed is null) <> (notification_id is null))
);
create index inbox_message_unread on inbox_message (customer_id) where read_at is null;
create index inbox_message_of_broadcast on inbox_message (notification_id) where notification_id is not null;

-- Who moved money with a bank, and when last: whom a broadcast about that bank concerns.
create table bank_use (
    bank        text collate "C" not null,
    customer_id text collate "C" not null,
    last_on     date not null,
    primary key (bank, customer_id)
);
create index bank_use_of_customer on bank_use (customer_id);

-- Whose each wallet is, as the ledger last said: whom news about wallets, or about a currency, concern.
create table wallet (
    account_id  text collate "C" primary key,
    customer_id text collate "C" not null,
    currency    text not null,
    status      text not null,
    version     bigint not null,
    constraint wallet_status_is_known check (status in ('open', 'closing', 'closed'))
);
create index wallet_of_customer on wallet (customer_id);

-- The same told to many. `texts` has what is read in each language, the same for everybody; one that is over keeps it
-- no longer than somebody has it in their inbox. One `about` a window or a clearance tells its `revision`: one of a
-- higher revision cancels it.
create table broadcast (
    notification_id text collate "C" primary key,
    content_hash    bytea not null,
    template        text not null,
    category        text not null,
    channels        text[] not null,
    audience_kind   text not null,
    audience_values text[] not null,
    currencies      text[] not null,
    about           text collate "C",
    revision        bigint,
    texts           text,
    not_before      timestamptz not null,
    expires_at      timestamptz not null,
    state           text not null default 'running',
    reached         text collate "C" not null default '',
    expected        bigint not null default 0,
    resolved_at     timestamptz,
    progress_at     timestamptz,
    is_over         boolean not null default false,
    created_at      timestamptz not null,
    constraint broadcast_about_has_a_revision check ((about is null) = (revision is null)),
    constraint broadcast_has_words_until_it_is_over check (is_over or texts is not null),
    constraint broadcast_audience_is_known check (audience_kind in ('all', 'bank', 'tier', 'locale', 'customers', 'holders')),
    constraint broadcast_state_is_known check (state in ('running', 'paused', 'cancelled'))
);
create index broadcast_open on broadcast (notification_id) where not is_over;
create index broadcast_about on broadcast (about, revision) where about is not null;

-- Whom a broadcast to a list is for, until it is over: then its notices say so.
create table broadcast_target (
    notification_id text collate "C" not null,
    customer_id     text collate "C" not null,
    primary key (notification_id, customer_id)
);

-- Where a broadcast's notices stood when they were last counted.
create table broadcast_count (
    notification_id text collate "C" primary key,
    accepted        bigint not null,
    delivered       bigint not null,
    sent            bigint not null,
    failed          bigint not null,
    suppressed      bigint not null,
    pending         bigint not null,
    out             bigint not null,
    counted_at      timestamptz not null,
    constraint broadcast_count_adds_up check (accepted = delivered + sent + failed + suppressed + pending)
);
