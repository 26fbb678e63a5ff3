-- A delivery knows which results may take its place, and which one did. Two columns with constant defaults: the
-- catalogue alone changes, nothing is backfilled.

-- SOP Instance UIDs of results of the same job in other forms, the next one first, with spaces between them.
alter table delivery add column fallbacks text not null default '';
-- SOP Instance UID of the result that took this one's place.
alter table delivery add column replaced_by text;

drop view audit_deliveries;
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
       delivery.delivered_at,
       (select other.form from result as other
         where other.sop_instance_uid = delivery.replaced_by) as replaced_by
  from delivery
  join result on result.sop_instance_uid = delivery.sop_instance_uid
  join job on job.job_id = delivery.job_id
  join series on series.series_instance_uid = job.series_instance_uid;
