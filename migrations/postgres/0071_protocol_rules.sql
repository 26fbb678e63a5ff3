-- When the jobs of a protocol may begin, and how many of them. Nothing is locked beyond making an empty table, nothing
-- is backfilled. The version before does not look here.

-- `hours` is empty or a list such as `20:00-06:00,12:00-13:00`, UTC. `started` counts the jobs that were first begun on
-- `day`, days since 1970-01-01 UTC. The row is locked while a job of it is taken, so that two workers never pass a
-- limit together.
create table protocol_rule (
    protocol_name text primary key,
    hours text not null,
    concurrent_limit bigint check (concurrent_limit > 0),
    daily_limit bigint check (daily_limit > 0),
    day bigint not null default 0,
    started bigint not null default 0
);
