"""Stores a folder of files over STOW-RS with dicomweb-client, then asks for what must be refused.

    python stow_client.py ROOT FOLDER TOKEN WEAKER_TOKEN

Prints a line of JSON for each request: its name, the HTTP status, and of the answer the instances that are referenced
and the failure reasons.
"""

import io
import json
import sys
from pathlib import Path

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

root, folder, token, weaker = sys.argv[1:]
files = [dcmread(path) for path in sorted(Path(folder).iterdir())]


def say(name, status, answer):
    answer = answer if isinstance(answer, Dataset) else Dataset.from_json(answer or {})
    failed = list(answer.get("FailedSOPSequence", [])) + list(answer.get("OtherFailuresSequence", []))
    reasons = [f"{item.FailureReason:04X}" for item in failed]
    stored = len(answer.get("ReferencedSOPSequence", []))
    print(json.dumps({"name": name, "status": status, "stored": stored, "reasons": reasons}))


def part10(dataset):
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def body(*parts):
    return b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts) + b"\r\n--b--\r\n"


def post(name, data, path="/studies", bearer=token, kind='multipart/related; type="application/dicom"; boundary=b', **headers):
    headers["Content-Type"] = kind
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    answer = requests.post(root + path, data=data, headers=headers, timeout=60)
    is_dicom = answer.headers.get("Content-Type") == "application/dicom+json"
    say(name, answer.status_code, answer.json() if is_dicom else None)


session = requests.Session()
session.headers["Authorization"] = f"Bearer {token}"
client = DICOMwebClient(root, session=session)
say("first time", 200, client.store_instances(files))
say("second time", 200, client.store_instances(files))
study = files[0].StudyInstanceUID
say("of its study", 200, client.store_instances(files[:2], study_instance_uid=study))

good = part10(files[0])
other = part10(files[0])
foreign = dcmread(io.BytesIO(other))
foreign.SOPClassUID = foreign.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
unknown_syntax = other.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
changed = dcmread(io.BytesIO(other))
changed.SeriesDescription = "Changed on the way"
misnamed = dcmread(io.BytesIO(other))
misnamed.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
out = io.BytesIO()
misnamed.save_as(out, enforce_file_format=False)
post("some good", body(good, part10(foreign), unknown_syntax, b"no file", other[:200]))
post("none good", body(b"no file at all", out.getvalue()))
post("other bytes under the same UID", body(part10(changed)))
post("another study", body(good), path="/studies/2.25.77")
post("broken off", body(good)[:-700])
post("no part", b"--b--\r\n")
post("no multipart", good)
post("an image", good, kind="image/png")
post("metadata", b"[]", kind='multipart/related; type="application/dicom+json"; boundary=b')
post("XML wanted", body(good), Accept="application/dicom+xml")
post("no token", body(good), bearer=None)
post("weaker token", body(good), bearer=weaker)
post("no UID", body(good), path="/studies/../x")
