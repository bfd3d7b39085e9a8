-- A clearance whose wallets are being removed, or are: the audit holds it to its statement alone.
alter table clearance add column is_purged boolean not null default false;
