-- The newest of one kind, such as audits, without looking through all the others.

create index act_of_kind on act (what, at desc);
