-- A window's events carry on the trace of who planned it.

alter table maintenance_window add column traceparent text;
