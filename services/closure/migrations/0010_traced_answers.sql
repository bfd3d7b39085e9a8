-- A repeat of a command is answered byte for byte, in its headers, too.
alter table answer
add column correlation_id text,
add column traceparent text;
