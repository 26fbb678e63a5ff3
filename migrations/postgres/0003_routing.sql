-- What routing knew of each series, and which studies wait for a choice among their series. Empty at first: nothing
-- is locked for longer than it takes to make two tables, nothing is backfilled; series that were settled before are
-- not known to a replay.

-- Restricted: the facts of a series as routing had them when it last settled, one line of JSON, never a name or an
-- identifier of a patient. `taken` names the protocols that took the series, with the revision of each.
create table routing_fact (
    series_instance_uid text primary key references series,
    study_instance_uid text not null references study,
    revision bigint not null,
    facts text not null,
    taken text not null,
    recorded_at timestamptz not null
);
create index routing_fact_by_study on routing_fact (study_instance_uid);

create table study_routing (
    study_instance_uid text primary key references study,
    settled_at timestamptz not null,
    generation bigint not null default 1,
    awaits_choice boolean not null
);
create index study_routing_by_time on study_routing (settled_at, study_instance_uid);
create index study_routing_waiting on study_routing (settled_at) where awaits_choice;
