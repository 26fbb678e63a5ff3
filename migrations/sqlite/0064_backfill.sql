-- Series that `prosector backfill` fetches from a PACS. A new table, empty; nothing is locked or backfilled.

create table backfill_series (
    protocol_name text not null,
    series_instance_uid text not null check (length(series_instance_uid) between 1 and 64),
    study_instance_uid text not null check (length(study_instance_uid) between 1 and 64),
    source text not null,
    -- waiting, requested (the PACS was asked to send it), received, failed
    state text not null check (state in ('waiting', 'requested', 'received', 'failed')),
    -- Whether instances of the series had been received before it was planned.
    was_here integer not null check (was_here in (0, 1)),
    expected_instances integer,
    attempt integer not null default 0,
    reason_code text,
    planned_at text not null,
    changed_at text not null,
    primary key (protocol_name, series_instance_uid)
) strict;
create index backfill_series_by_series on backfill_series (series_instance_uid);
create index backfill_series_open on backfill_series (source, protocol_name, planned_at)
    where state in ('waiting', 'requested');
