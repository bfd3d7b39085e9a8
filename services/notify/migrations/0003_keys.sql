-- Keys have a table of their own, which is rewritten soon after some were destroyed: that takes little time only where
-- nothing else has to be written. The planner keeps no samples of them.

-- What is sealed for a customer is encrypted under their key, which the master key wraps; erasing destroys it.
create table customer_key (
    customer_id text collate "C" primary key references customer on delete cascade,
    wrapped_key bytea not null
);
alter table customer_key alter column wrapped_key set statistics 0;

insert into customer_key select customer_id, wrapped_key from customer where wrapped_key is not null;
alter table customer drop column wrapped_key;
-- A column that was dropped stays in the rows until they are written again.
cluster customer using customer_pkey;
alter table customer set without cluster;

create trigger key_is_destroyed after update or delete on customer_key
for each row execute function note_destroyed_key();
