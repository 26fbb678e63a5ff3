-- Who may do what in prosector's database. Run by the database's administrator, in that database, after
-- `prosector migrate` and again after every upgrade; running it twice changes nothing:
--
--     psql --dbname prosector --file roles.sql
--
-- Login roles are the site's own: `create role listener_1 login in role prosector_writer`, and so on.
--
-- prosector_migrator   owns the schema; `prosector migrate` alone logs in as a member
-- prosector_writer     serve, in every role
-- prosector_auditor    reads everything, patient identifiers included, and can only add to the ledger

do $$
declare
    role_name text;
begin
    foreach role_name in array array['prosector_migrator', 'prosector_writer', 'prosector_auditor'] loop
        if not exists (select 1 from pg_roles where rolname = role_name) then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
end
$$;

revoke create on schema public from public;
grant usage on schema public to prosector_migrator, prosector_writer, prosector_auditor;
grant create on schema public to prosector_migrator;

-- Rows are kept: the writer deletes only what the outbox and a repeated measurement replace.
grant select, insert, update on all tables in schema public to prosector_writer;
grant usage on all sequences in schema public to prosector_writer;
grant delete on outbox, job_target, job_finding to prosector_writer;
revoke insert, update on _sqlx_migrations from prosector_writer;

grant select on all tables in schema public to prosector_auditor;

-- The ledger is append-only by grant, and by trigger for those whom grants do not bind.
revoke update, delete, truncate on event from prosector_writer, prosector_auditor;
grant insert on event to prosector_auditor;
revoke insert, delete, truncate on ledger_head from prosector_writer, prosector_auditor;
grant update on ledger_head to prosector_auditor;
