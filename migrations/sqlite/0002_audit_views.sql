-- Views for people with a database client. They hold no patient attribute.
-- Every column is described in the PostgreSQL migration of this name.

create view audit_studies as
select study.study_instance_uid,
       study.first_received_at,
       study.last_received_at,
       (select count(*) from series where series.study_instance_uid = study.study_instance_uid) as series_count,
       (select cast(coalesce(sum(series.instance_count), 0) as bigint) from series
         where series.study_instance_uid = study.study_instance_uid) as instance_count,
       (select count(*) from series
         where series.study_instance_uid = study.study_instance_uid
           and series.revision > series.settled_revision) as unsettled_series_count,
       (select count(*) from job
          join series on series.series_instance_uid = job.series_instance_uid
         where series.study_instance_uid = study.study_instance_uid and job.state <> 'superseded') as job_count,
       (select count(*) from job
          join series on series.series_instance_uid = job.series_instance_uid
         where series.study_instance_uid = study.study_instance_uid
           and job.state in ('held', 'queued', 'running')) as open_job_count
  from study;

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
       job.superseded_by
  from job
  join series on series.series_instance_uid = job.series_instance_uid;

create view audit_deliveries as
select delivery.delivery_id,
       delivery.job_id,
       series.study_instance_uid,
       job.series_instance_uid as source_series_instance_uid,
       delivery.sop_instance_uid,
       result.form,
       lower(hex(result.sha256)) as sha256,
       delivery.destination,
       delivery.state,
       delivery.attempt,
       delivery.last_status,
       delivery.reason_code,
       delivery.created_at,
       delivery.next_attempt_at,
       delivery.delivered_at
  from delivery
  join result on result.sop_instance_uid = delivery.sop_instance_uid
  join job on job.job_id = delivery.job_id
  join series on series.series_instance_uid = job.series_instance_uid;

create view audit_events as
select event.seq,
       event.recorded_at,
       event.kind,
       event.reason_code,
       event.actor,
       event.study_instance_uid,
       event.series_instance_uid,
       event.sop_instance_uid,
       event.job_id,
       event.association_id,
       association.calling_ae_title,
       event.destination,
       event.detail,
       lower(hex(event.hash)) as hash
  from event
  left join association on association.association_id = event.association_id;
