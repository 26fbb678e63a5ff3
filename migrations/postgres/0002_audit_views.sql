-- Views for people with a database client. They hold no patient attribute; nothing is locked but the catalogue.

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
comment on view audit_studies is 'One row for each study that was received.';
comment on column audit_studies.study_instance_uid is 'Study Instance UID (0020,000D).';
comment on column audit_studies.first_received_at is 'When its first instance became durable.';
comment on column audit_studies.last_received_at is 'When an instance of it last arrived.';
comment on column audit_studies.series_count is 'Series received.';
comment on column audit_studies.instance_count is 'Instances received, duplicates and conflicts left out.';
comment on column audit_studies.unsettled_series_count is 'Series that were not found complete yet.';
comment on column audit_studies.job_count is 'Jobs made, superseded ones left out.';
comment on column audit_studies.open_job_count is 'Jobs that have not ended.';

create view audit_jobs as
select job.job_id,
       series.study_instance_uid,
       job.series_instance_uid,
       series.modality,
       job.protocol_name,
       encode(job.protocol_revision_sha256, 'hex') as protocol_revision_sha256,
       encode(job.pack_digest, 'hex') as pack_digest,
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
comment on view audit_jobs is 'One row for each job: one protocol on one series.';
comment on column audit_jobs.job_id is 'Identifier of the job, derived from its inputs.';
comment on column audit_jobs.study_instance_uid is 'Study of the series.';
comment on column audit_jobs.series_instance_uid is 'The series that is segmented.';
comment on column audit_jobs.modality is 'Modality (0008,0060), as received.';
comment on column audit_jobs.protocol_name is 'Name of the protocol.';
comment on column audit_jobs.protocol_revision_sha256 is 'Digest of the protocol''s wording; the wording is in protocol_revision.';
comment on column audit_jobs.pack_digest is 'Digest of the model pack.';
comment on column audit_jobs.priority is 'stat, urgent, routine or backfill.';
comment on column audit_jobs.state is 'held, queued, running, done, empty, failed, rejected, quarantined, superseded or cancelled.';
comment on column audit_jobs.reason_code is 'Why it is in this state, as a code.';
comment on column audit_jobs.reason is 'The same for a person; never a value from a data set.';
comment on column audit_jobs.attempt is 'Attempts so far.';
comment on column audit_jobs.worker is 'The worker that has it, while it runs.';
comment on column audit_jobs.created_at is 'When it was made; dates in its results are this one.';
comment on column audit_jobs.started_at is 'When a worker first took it.';
comment on column audit_jobs.finished_at is 'When it ended.';
comment on column audit_jobs.superseded_by is 'The job that took its place after late instances.';

create view audit_deliveries as
select delivery.delivery_id,
       delivery.job_id,
       series.study_instance_uid,
       job.series_instance_uid as source_series_instance_uid,
       delivery.sop_instance_uid,
       result.form,
       encode(result.sha256, 'hex') as sha256,
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
comment on view audit_deliveries is 'One row for each result and destination.';
comment on column audit_deliveries.delivery_id is 'Identifier of the delivery.';
comment on column audit_deliveries.job_id is 'The job that made the result.';
comment on column audit_deliveries.study_instance_uid is 'The study that the result belongs to.';
comment on column audit_deliveries.source_series_instance_uid is 'The series that was segmented.';
comment on column audit_deliveries.sop_instance_uid is 'SOP Instance UID of the result.';
comment on column audit_deliveries.form is 'seg, labelmap, sr, picture or rtstruct.';
comment on column audit_deliveries.sha256 is 'Digest of the bytes that are sent.';
comment on column audit_deliveries.destination is 'Name of the destination in the configuration.';
comment on column audit_deliveries.state is 'pending, sending, delivered, failed or cancelled.';
comment on column audit_deliveries.attempt is 'Attempts so far.';
comment on column audit_deliveries.last_status is 'Last DIMSE or HTTP status, in decimal.';
comment on column audit_deliveries.reason_code is 'Why it is not delivered.';
comment on column audit_deliveries.created_at is 'When the result was made.';
comment on column audit_deliveries.next_attempt_at is 'Not to be tried before.';
comment on column audit_deliveries.delivered_at is 'When the destination accepted it.';

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
       cast(event.detail as jsonb) as detail,
       encode(event.hash, 'hex') as hash
  from event
  left join association on association.association_id = event.association_id;
comment on view audit_events is 'The provenance ledger, in the order of seq.';
comment on column audit_events.seq is 'Place in the ledger, from 1 without gaps.';
comment on column audit_events.recorded_at is 'When it was recorded, by the database''s clock.';
comment on column audit_events.kind is 'What happened.';
comment on column audit_events.reason_code is 'Why, where there is a why.';
comment on column audit_events.actor is 'The process that recorded it.';
comment on column audit_events.study_instance_uid is 'The study concerned.';
comment on column audit_events.series_instance_uid is 'The series concerned.';
comment on column audit_events.sop_instance_uid is 'The instance concerned, received or made.';
comment on column audit_events.job_id is 'The job concerned.';
comment on column audit_events.association_id is 'The association concerned.';
comment on column audit_events.calling_ae_title is 'Who opened that association.';
comment on column audit_events.destination is 'The destination concerned.';
comment on column audit_events.detail is 'Further facts: numbers, digests and words of ours.';
comment on column audit_events.hash is 'SHA-256 over the previous hash and this entry.';
