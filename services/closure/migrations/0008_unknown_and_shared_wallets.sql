-- Wallets that a clearance names and nobody knows, and those whose money another clearance counts.

-- `is_anothers` says that the case of a wallet was begun by another clearance, or counted by one before.
alter table clearance_wallet
alter column customer_id drop not null,
alter column currency drop not null,
add column is_anothers boolean not null default false,
add constraint unknown_wallet_is_nobodys
    check ((status = 'unknown') = (customer_id is null) and (status = 'unknown') = (currency is null)),
add constraint unknown_wallet_has_no_case check (status <> 'unknown' or (case_id is null and posted_minor = 0)),
add constraint anothers_wallet_is_not_its_own check (not (is_own and is_anothers));

create index clearance_wallet_of_case on clearance_wallet (case_id) where case_id is not null and not is_own;
create index clearance_wallet_unknown on clearance_wallet (clearance_id, account_id) where status = 'unknown';
