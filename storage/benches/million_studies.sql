-- Fills a migrated, empty PostgreSQL database with studies, a ledger entry for each, for timing questions:
--
--     psql --dbname prosector --variable studies=1000000 --file million_studies.sql
--
-- Study n is sent by one of 50 modalities, spread over three years; every third patient comes again. Of a thousand
-- jobs 985 are done and delivered, 10 failed, 4 rejected, one is held.

\set ON_ERROR_STOP on
set synchronous_commit = off;
select set_config('bench.studies', :'studies', false) \g /dev/null
begin;

create temporary view numbered as
select n,
       '1.2.826.0.1.3680043.10.1491.9.' || n as study_uid,
       '1.2.826.0.1.3680043.10.1491.9.' || n || '.1' as series_uid,
       cast(md5('association ' || n) as uuid) as association_id,
       cast(md5('job ' || n) as uuid) as job_id,
       timestamptz '2020-01-01T00:00:00Z' + n * (interval '1095 days' / cast(current_setting('bench.studies') as bigint)) as at,
       case when n % 1000 = 0 then 'held' when n % 1000 <= 10 then 'failed' when n % 1000 <= 14 then 'rejected'
            else 'done' end as state
  from generate_series(1, cast(current_setting('bench.studies') as bigint)) as n;

insert into study (study_instance_uid, first_received_at, last_received_at)
select study_uid, at, at from numbered;
insert into series (series_instance_uid, study_instance_uid, modality, first_received_at, last_received_at,
                    instance_count, revision, settled_revision, settled_at)
select series_uid, study_uid, 'CT', at, at, 2, 1, 1, at from numbered;
insert into patient_identity (study_instance_uid, patient_id, accession_number, recorded_at)
select study_uid, 'PATIENT-' || n / 3, 'ACCESSION-' || n, at from numbered;
insert into association (association_id, listener, calling_ae_title, called_ae_title, peer_address, started_at,
                         ended_at, outcome, instance_count)
select association_id, 'listener', 'MODALITY_' || n % 50, 'PROSECTOR', '10.0.0.1', at, at, 'released', 2 from numbered;
insert into instance (sop_instance_uid, series_instance_uid, sop_class_uid, transfer_syntax_uid, instance_number,
                      sha256, size_bytes, spool_key, received_at, association_id)
select series_uid || '.' || i, series_uid, '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', i,
       sha256(convert_to(series_uid || '.' || i, 'UTF8')), 524288,
       'instances/aa/' || md5(series_uid) || '/' || i || '.dcm', at, association_id
  from numbered, generate_series(1, 2) as i;
insert into settlement (series_instance_uid, revision, instance_count, instances_sha256, evidence, settled_at)
select series_uid, 1, 2, sha256(convert_to(series_uid, 'UTF8')), '{"quiet_s": 10}', at from numbered;
insert into protocol_revision (protocol_revision_sha256, protocol_name, definition, first_seen_at)
values (sha256('ct-abdomen'), 'ct-abdomen', 'ct-abdomen', '2020-01-01T00:00:00Z');
insert into decision (series_instance_uid, revision, protocol_name, outcome, reason_code, reason, decided_at)
select series_uid, 1, 'ct-abdomen', 'matched', 'matched', 'every condition holds', at from numbered;
insert into job (job_id, series_instance_uid, protocol_name, protocol_revision_sha256, pack_digest, priority, state,
                 reason_code, attempt, next_attempt_at, created_at, started_at, finished_at)
select job_id, series_uid, 'ct-abdomen', sha256('ct-abdomen'), sha256(convert_to('pack ' || n % 5, 'UTF8')), 2, state,
       case state when 'failed' then 'model_refused' when 'rejected' then 'not_a_volume'
                  when 'held' then 'implausible_volume' end,
       1, at, at, at, case when state <> 'held' then at end
  from numbered;
insert into result (sop_instance_uid, series_instance_uid, sop_class_uid, job_id, form, sha256, size_bytes, spool_key,
                    created_at)
select series_uid || '.9.1', series_uid || '.9', '1.2.840.10008.5.1.4.1.1.66.4', job_id, 'seg',
       sha256(convert_to(series_uid || '.9.1', 'UTF8')), 65536, 'results/aa/' || job_id || '/1.dcm', at
  from numbered where state = 'done';
insert into delivery (delivery_id, sop_instance_uid, job_id, destination, state, attempt, next_attempt_at, created_at,
                      delivered_at)
select cast(md5('delivery ' || n) as uuid), series_uid || '.9.1', job_id, 'pacs', 'delivered', 1, at, at, at
  from numbered where state = 'done';

-- The ledger, sealed as storage/src/provenance/chain.rs describes it.
create function pg_temp.sealed(text) returns text language sql immutable as
    $$ select coalesce(octet_length($1) || ':' || $1 || ',', '-,') $$;
do $$
declare
    entry record;
    place bigint;
    last bytea;
    before bytea;
    detail text := '{"attempt":1}';
begin
    select seq, hash into place, last from ledger_head where head_id = 1;
    for entry in
        select study_uid, series_uid, job_id, at, 'bench@host#1' as actor,
               case n % 4 when 0 then 'job_created' when 1 then 'job_leased' when 2 then 'job_done'
                          else 'result_delivered' end as kind
          from numbered order by n
    loop
        place := place + 1;
        before := last;
        last := sha256(before || convert_to(
            pg_temp.sealed(cast(place as text))
            || pg_temp.sealed(to_char(entry.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
            || pg_temp.sealed(entry.kind) || '-,' || pg_temp.sealed(entry.actor)
            || pg_temp.sealed(entry.study_uid) || pg_temp.sealed(entry.series_uid) || '-,'
            || pg_temp.sealed(cast(entry.job_id as text)) || '-,-,' || pg_temp.sealed(detail), 'UTF8'));
        insert into event (seq, recorded_at, kind, actor, study_instance_uid, series_instance_uid, job_id, detail,
                           previous_hash, hash)
        values (place, entry.at, entry.kind, entry.actor, entry.study_uid, entry.series_uid, entry.job_id, detail,
                before, last);
    end loop;
    update ledger_head
       set seq = place, hash = last, recorded_at = (select recorded_at from event where seq = place)
     where head_id = 1;
end
$$;
commit;
vacuum analyze;
