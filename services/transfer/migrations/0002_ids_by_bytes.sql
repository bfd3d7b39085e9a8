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
    alter column currency type text collate "C";
alter table refund
    alter column source_account type text collate "C";
alter table answer
    alter column scope type text collate "C",
    alter column id type text collate "C";
alter table customer_key
    alter column customer_id type text collate "C";
alter table transfer
    alter column payer type text collate "C",
    alter column payee type text collate "C";
