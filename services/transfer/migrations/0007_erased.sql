-- Customers who were erased, as long as late news may name them: what they were given before they came back, if they
-- did, makes nothing any more.
create table erased_customer (
    customer_id text collate "C" primary key,
    returned_at timestamptz
);
