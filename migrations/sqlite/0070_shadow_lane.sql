-- A lane for candidates beside production: its jobs run when nothing else waits, and their results stay here. Checking
-- the new column and building the index of queued jobs read `job` once while it is locked: some seconds for ten million
-- jobs. Nothing is backfilled. A worker of the version before that takes a job of the shadow lane ends it as failed, as
-- the model is not the protocol's.

alter table job add column lane text not null default 'production' check (lane in ('production', 'shadow'));
drop index job_queued;
create index job_queued on job (lane, priority, created_at) where state = 'queued';

drop view audit_jobs;
create view audit_jobs as
select job.job_id,
       series.study_instance_uid,
       job.series_instance_uid,
       series.modality,
       job.protocol_name,
       lower(hex(job.protocol_revision_sha256)) as protocol_revision_sha256,
       lower(hex(job.pack_digest)) as pack_digest,
       case job.priority when 0 then 'stat' when 1 then 'urgent' when 2 then 'routine' else 'backfill' end as priority,
       job.state,
       job.reason_code,
       job.reason,
       job.attempt,
       job.lease_owner as worker,
       job.created_at,
       job.started_at,
       job.finished_at,
       job.superseded_by,
       job.lane
  from job
  join series on series.series_instance_uid = job.series_instance_uid;
