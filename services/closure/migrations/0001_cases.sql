-- Cases that close wallets and loans, with everything that was said of them, and what closing needs to know of
-- customers, wallets and debts.

-- A customer, from their latest profile: keyed hashes only. Everything about a customer is decided under the lock of
-- this row. What applicants say is encrypted under the customer's key, which the master key wraps; erasing destroys it.
-- `erase_wanted` is the id of a null profile that waits for the end of the customer's cases.
create table customer (
    customer_id    text collate "C" primary key,
    name_hash      bytea,
    id_number_hash bytea,
    phone_hash     bytea,
    phone_verified boolean not null default false,
    wrapped_key    bytea,
    flagged_until  timestamptz,
    erase_wanted   text,
    erased_at      timestamptz,
    constraint customer_hashes_are_of_a_profile
        check (name_hash is not null or (id_number_hash is null and phone_hash is null and not phone_verified))
);

-- A wallet as it was last published.
create table wallet (
    account_id  text collate "C" primary key,
    customer_id text collate "C" not null,
    currency    text not null,
    status      text not null,
    version     bigint not null,
    constraint wallet_status_is_known check (status in ('open', 'closing', 'closed'))
);
create index wallet_of_customer on wallet (customer_id);

-- What somebody owes on a loan or card.
create table position (
    obligation_id   text collate "C" primary key,
    customer_id     text collate "C" not null,
    account         text,
    kind            text not null,
    principal_minor bigint not null,
    interest_minor  bigint not null,
    penalty_minor   bigint not null,
    currency        text not null,
    status          text not null
);
create index position_of_customer on position (customer_id);

-- Which step may follow which; the same pairs as in model.TRANSITIONS.
create table case_transition (
    previous text not null,
    status   text not null,
    constraint transition_is_one_pair primary key (previous, status)
);

-- A case with its latest event. `sealed` is what the applicant said, encrypted; `wrapped_key` is what it is encrypted
-- with as long as nobody knows whose the case is.
create table closing_case (
    case_id               uuid primary key,
    content_hash          bytea not null,
    subject               text collate "C" not null,
    received_at           timestamptz not null,
    customer_id           text collate "C",
    clearance_id          uuid,
    correlation_id        text,
    traceparent           text,
    status                text not null,
    step_count            integer not null,
    revision              integer not null,
    event_type            text not null,
    event_body            bytea not null,
    occurred_at           timestamptz,
    expires_at            timestamptz,
    accepts_fee           boolean not null,
    claimed_balance_minor bigint,
    attempts              integer not null,
    review_of             text,
    approved_by           jsonb not null,
    reports               integer not null,
    currency              text,
    start_minor           bigint not null,
    balance_minor         bigint not null,
    fee_minor             bigint not null,
    payouts               integer not null,
    payout_minor          bigint not null,
    paid_minor            bigint not null,
    paid_numbers          jsonb not null,
    fee_paid_minor        bigint not null,
    fee_paid_number       integer not null,
    refusal               text,
    erased_by             jsonb not null,
    receipt_sha256        text,
    erasure               text,
    id_number_hash        bytea,
    ended_at              timestamptz,
    sealed                bytea,
    wrapped_key           bytea,
    constraint case_ends_once_it_has_ended
        check ((ended_at is not null) = (status in ('closed', 'rejected', 'cancelled', 'expired'))),
    constraint case_of_somebody_has_their_key check (customer_id is null or wrapped_key is null),
    constraint case_amounts_are_not_negative
        check (fee_minor >= 0 and payout_minor >= 0 and paid_minor >= 0 and fee_paid_minor between 0 and fee_minor),
    constraint case_is_closed_with_a_receipt
        check (status <> 'closed' or (receipt_sha256 is not null and erasure is not null)),
    constraint case_erasure_is_known check (erasure in ('done', 'deferred')),
    constraint case_counts_payouts_that_were_made check (jsonb_array_length(paid_numbers) <= payouts and fee_paid_number <= payouts)
)
with (fillfactor = 70);
create unique index one_open_case_a_subject on closing_case (subject) where ended_at is null;
create index case_of_customer on closing_case (customer_id);
create index case_of_subject on closing_case (subject, received_at);
create index case_of_clearance on closing_case (clearance_id, status) where clearance_id is not null;

-- Every step of a case, each once, with what was said of it.
create table case_step (
    case_id     uuid not null,
    number      integer not null,
    previous    text,
    status      text not null,
    why         text,
    revision    integer,
    event_type  text,
    event_body  bytea,
    occurred_at timestamptz not null,
    constraint case_step_is_taken_once primary key (case_id, number),
    constraint case_step_may_follow foreign key (previous, status) references case_transition,
    constraint case_event_is_whole check ((revision is null) = (event_type is null)),
    constraint case_begins_with_its_first_step check ((previous is null) = (number = 1))
);

-- What a command without an id of its own was answered with, so that a repeat gets the same.
create table answer (
    source       text collate "C" not null,
    id           text collate "C" not null,
    content_hash bytea not null,
    message_key  bytea,
    type         text,
    event_id     text,
    subject      text,
    body         bytea,
    occurred_at  timestamptz not null,
    constraint command_is_answered_once primary key (source, id)
);

insert into case_transition (previous, status)
values
    ('received', 'identity'),
    ('received', 'obligations'),
    ('received', 'rejected'),
    ('received', 'cancelled'),
    ('identity', 'documents_required'),
    ('identity', 'obligations'),
    ('identity', 'review'),
    ('documents_required', 'identity'),
    ('documents_required', 'review'),
    ('documents_required', 'rejected'),
    ('documents_required', 'cancelled'),
    ('obligations', 'in_flight'),
    ('obligations', 'policy'),
    ('obligations', 'account_wanted'),
    ('obligations', 'draining'),
    ('obligations', 'rejected'),
    ('obligations', 'cancelled'),
    ('in_flight', 'documents_required'),
    ('in_flight', 'policy'),
    ('in_flight', 'review'),
    ('in_flight', 'rejected'),
    ('in_flight', 'cancelled'),
    ('policy', 'review'),
    ('policy', 'approved'),
    ('policy', 'rejected'),
    ('review', 'obligations'),
    ('review', 'approved'),
    ('review', 'rejected'),
    ('review', 'cancelled'),
    ('approved', 'confirmed'),
    ('approved', 'rejected'),
    ('approved', 'cancelled'),
    ('approved', 'expired'),
    ('confirmed', 'draining'),
    ('confirmed', 'erasing'),
    ('confirmed', 'closed'),
    ('account_wanted', 'draining'),
    ('account_wanted', 'rejected'),
    ('draining', 'paying_out'),
    ('draining', 'payout_stopped'),
    ('draining', 'finishing'),
    ('draining', 'reinstating'),
    ('draining', 'rejected'),
    ('paying_out', 'payout_stopped'),
    ('paying_out', 'finishing'),
    ('payout_stopped', 'paying_out'),
    ('payout_stopped', 'reinstating'),
    ('finishing', 'paying_out'),
    ('finishing', 'payout_stopped'),
    ('finishing', 'erasing'),
    ('finishing', 'closed'),
    ('erasing', 'closed'),
    ('reinstating', 'rejected'),
    ('reinstating', 'cancelled'),
    ('received', 'received'),
    ('identity', 'identity'),
    ('documents_required', 'documents_required'),
    ('obligations', 'obligations'),
    ('in_flight', 'in_flight'),
    ('policy', 'policy'),
    ('review', 'review'),
    ('approved', 'approved'),
    ('confirmed', 'confirmed'),
    ('account_wanted', 'account_wanted'),
    ('draining', 'draining'),
    ('paying_out', 'paying_out'),
    ('payout_stopped', 'payout_stopped'),
    ('finishing', 'finishing'),
    ('erasing', 'erasing'),
    ('reinstating', 'reinstating'),
    ('closed', 'closed'),
    ('rejected', 'rejected'),
    ('cancelled', 'cancelled'),
    ('expired', 'expired');
