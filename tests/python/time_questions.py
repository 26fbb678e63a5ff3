"""Times every question that the audit answers, by command line and by REST, over a database that
storage/benches/million_studies.sql has filled, and says how PostgreSQL found the answers.

    python tests/python/time_questions.py --binary target/debug/prosector --database postgres://... --studies 1000000 \
        [--server-log FILE]

With the server's log, plans are those that ran, as auto_explain wrote them:
session_preload_libraries = 'auto_explain', auto_explain.log_min_duration = 0, auto_explain.log_analyze = on.
Prints a table in Markdown: milliseconds, median and worst of five; the command line's include its start.
"""

import argparse
import hashlib
import json
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = "1.2.826.0.1.3680043.10.1491.9"
TURNS = 5
LARGE = {"study", "series", "instance", "association", "job", "result", "delivery", "event", "decision",
         "settlement", "patient_identity"}


def job_id(n):
    digest = hashlib.md5(f"job {n}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def questions(studies):
    """Name, command line, and a request (path, body) where there is one."""
    n = studies // 2 + 1
    study, series, job = f"{ROOT}.{n}", f"{ROOT}.{n}.1", job_id(n)
    accession, patient = f"ACCESSION-{n}", f"PATIENT-{n // 3}"
    found = []
    filters = [("all", [], {}), ("since", ["--since", "2022-12-01"], {"since": "2022-12-01"}),
               ("until", ["--until", "2020-02-01"], {"until": "2020-02-01"}),
               ("sender", ["--ae", "MODALITY_7"], {"ae": "MODALITY_7"}),
               ("sender, unknown", ["--ae", "NOBODY"], {"ae": "NOBODY"}),
               ("state held", ["--state", "held"], {"state": "held"}),
               ("state quarantined, none", ["--state", "quarantined"], {"state": "quarantined"}),
               ("sender and state", ["--ae", "MODALITY_7", "--state", "failed"], {"ae": "MODALITY_7", "state": "failed"}),
               ("study", ["--study", study], {"study": study}), ("series", ["--series", series], {"series": series}),
               ("patient", ["--patient-id", patient], {"patient_id": patient}),
               ("accession", ["--accession", accession], {"accession": accession})]
    for what, command in (("studies", ["audit", "studies"]), ("instances", ["audit", "instances"]),
                          ("jobs", ["job", "list"])):
        for name, arguments, body in filters:
            found.append((f"{what}: {name}", command + arguments, (f"/api/v1/audit/{what}", body)))
    for name, arguments, body in (
            ("all", [], {}), ("since", ["--since", "2022-12-01"], {"since": "2022-12-01"}),
            ("kind", ["--kind", "job_done"], {"kind": "job_done"}),
            ("kind, none", ["--kind", "purged"], {"kind": "purged"}),
            ("kind since", ["--kind", "job_done", "--since", "2022-12-01"], {"kind": "job_done", "since": "2022-12-01"}),
            ("study", ["--study", study], {"study": study}), ("series", ["--series", series], {"series": series}),
            ("job", ["--job", job], {"job": job}), ("patient", ["--patient-id", patient], {"patient_id": patient}),
            ("accession", ["--accession", accession], {"accession": accession})):
        found.append((f"events: {name}", ["audit", "events", *arguments], ("/api/v1/audit/events", body)))
    for name, words in (("accession", accession), ("patient", patient), ("study", study), ("series", series),
                        ("instance", f"{series}.1"), ("result", f"{series}.9.1"), ("job", job), ("nothing", "UNKNOWN-1")):
        found.append((f"why: {name}", ["why", words], ("/api/v1/why", {"words": words})))
    found.append(("job show", ["job", "show", job], (f"/api/v1/jobs/{job}", None)))
    for path in ("/api/v1/overview", "/api/v1/studies", "/api/v1/jobs", "/api/v1/deliveries", "/", f"/studies/{study}", "/jobs",
                 "/jobs?state=failed", "/deliveries", "/audit", "/metrics"):
        found.append((path, None, (path, None)))
    return found


def timed(action):
    took = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        action()
        took.append((time.perf_counter() - begin) * 1000)
    return f"{statistics.median(took):.0f} / {max(took):.0f}", max(took)


def plans(text):
    """How large tables were reached in the plans of a piece of the log."""
    nodes = re.findall(r"(Seq Scan|Index Only Scan|Index Scan|Bitmap Index Scan)(?: Backward)?(?: using (\w+))? on (\w+)", text)
    ways = set()
    for kind, index, table in nodes:
        if kind == "Seq Scan" and table in LARGE:
            ways.add(f"**all of {table}**")
        elif kind != "Seq Scan":
            ways.add(index or table)
    return ", ".join(sorted(ways))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--studies", type=int, required=True)
    parser.add_argument("--server-log")
    wanted = parser.parse_args()
    binary = os.path.abspath(wanted.binary)
    folder = tempfile.mkdtemp(prefix="prosector-questions-")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PROSECTOR__STORE__URL": wanted.database, "PROSECTOR__LOG__LEVEL": "error",
                   "PROSECTOR__API__BIND": f"127.0.0.1:{port}"}
    url = f"http://127.0.0.1:{port}"
    service = subprocess.Popen([binary, "serve", "--role", "api"], cwd=folder, env=environment)

    def request(path, body):
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=60) as answer:
            return answer.read()

    def mark():
        return os.path.getsize(wanted.server_log) if wanted.server_log else 0

    try:
        for _ in range(200):
            try:
                request("/health/live", None)
                break
            except OSError:
                time.sleep(0.1)
        print("| question | command line ms | REST or page ms | found by |\n| --- | --- | --- | --- |")
        slow = []
        for name, command, (path, body) in questions(wanted.studies):
            begin = mark()
            shown = []
            if command is not None:
                run = lambda: subprocess.run([binary, *command], cwd=folder, env=environment, capture_output=True)
                text, worst = timed(run)
                shown.append(text)
                slow.append((worst, name, "command line"))
            else:
                shown.append("")
            text, worst = timed(lambda: request(path, body))
            shown.append(text)
            slow.append((worst, name, "REST"))
            time.sleep(0.2)
            if wanted.server_log:
                with open(wanted.server_log, "rb") as log:
                    log.seek(begin)
                    shown.append(plans(log.read().decode("utf-8", "replace")))
            else:
                shown.append("")
            print(f"| {name} | {' | '.join(shown)} |", flush=True)
        slow.sort(reverse=True)
        print("\nslowest:", "; ".join(f"{name} ({how}) {worst:.0f} ms" for worst, name, how in slow[:5]))
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main()
