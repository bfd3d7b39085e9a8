-- Names are compared by their bytes: the same on every server, whatever its locale, and several times as fast.

alter table lane
    alter column lane_group type text collate "C";
alter table consumed_offset
    alter column topic type text collate "C";
alter table outbox
    alter column lane_group type text collate "C";
alter table timer
    alter column kind type text collate "C",
    alter column subject type text collate "C",
    alter column lane_group type text collate "C";
