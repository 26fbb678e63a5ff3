-- What is odd about a result. A new table: nothing is locked, nothing is backfilled.

create table job_finding (
    job_id text not null references job (job_id),
    finding_number integer not null check (finding_number > 0),
    prompt text not null,
    kind text not null check (kind in ('empty', 'cut_off', 'fragments', 'side', 'volume')),
    detail text not null,
    primary key (job_id, finding_number)
) strict;
