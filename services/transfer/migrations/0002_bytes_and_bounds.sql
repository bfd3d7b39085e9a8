-- Ids are compared by their bytes: the same on every server, whatever its locale, and several times as fast.

alter table account
    alter column account_id type text collate "C";
alter table account_event
    alter column account_id type text collate "C";
alter table holder
    alter column customer_id type text collate "C";
alter table movement
    alter column debit_account type text collate "C",
    alter column credit_account type text collate "C";
alter table platform_stripe
    alter column account_id type text collate "C",
    alter column currency type text collate "C",
    -- A bank may bring in more over the years than any wallet may hold.
    alter column posted_minor type numeric(38, 0);
alter table refund
    alter column source_account type text collate "C";
alter table answer
    alter column scope type text collate "C",
    alter column id type text collate "C";
alter table customer_key
    alter column customer_id type text collate "C";
alter table transfer
    alter column payer type text collate "C",
    alter column payee type text collate "C",
    alter column payer_customer_id type text collate "C";

-- Nobody spends more than they have and may overdraw, whatever the code thinks.
alter table account
    add constraint account_spends_only_what_it_may check (posted_minor - reserved_minor >= - overdraft_limit_minor);

-- What is sealed for a customer, to be cleared when they are erased.
create index transfer_sealed_for on transfer (payer_customer_id)
where payee_name_sealed is not null;
