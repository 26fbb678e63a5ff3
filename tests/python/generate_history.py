"""Fill a migrated SQLite store with recorded series, to measure `prosector protocol replay`.

    prosector migrate --config site.toml
    python generate_history.py var/prosector.db 1000000

Three series make a study; headers vary as those of five CT and three MR scanners do. Nothing is anybody's.
"""

import datetime
import hashlib
import json
import sqlite3
import sys

CT = [
    ("SIEMENS", "SOMATOM Force", "Br40d", "Bl64d"),
    ("Siemens Healthineers", "NAEOTOM Alpha", "Qr40f", "Br68f"),
    ("GE MEDICAL SYSTEMS", "Revolution CT", "STANDARD", "LUNG"),
    ("Philips", "IQon - Spectral CT", "B", "YC"),
    ("Canon Medical Systems", "Aquilion ONE", "FC08", "FC52"),
]
PARTS = [("HEAD", "Schaedel", 160), ("CHEST", "Thorax", 330), ("ABDOMEN", "Abdomen", 450), ("PELVIS", "Becken", 280),
         ("WHOLEBODY", "Polytrauma", 1400), ("BRAIN", "t1_mprage", 180)]
PHASES = ["nativ", "art.", "ven."]


def record(number, study_uid, series_uid):
    study, member = divmod(number, 3)
    vendor, model, soft, sharp = CT[study % 5]
    part, words, coverage = PARTS[study % 6]
    modality = "MR" if part == "BRAIN" else "CT"
    spacing = [5.0, 1.0, 1.5][member]
    kernel = sharp if study % 9 == 8 else soft
    values = {
        "AcquisitionDate": "20260102", "AcquisitionTime": f"{study % 24:02}{member:02}17.220000",
        "AcquisitionType": "SPIRAL", "BodyPartExamined": part, "Columns": "512", "ConvolutionKernel": kernel,
        "EchoTime": "2.98", "ExposureTime": "500", "FilterType": "0", "FlipAngle": "9", "GantryDetectorTilt": "0",
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"], "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstitutionName": "Klinikum", "InstitutionalDepartmentName": "Radiologie", "KVP": "120",
        "LossyImageCompression": "00", "MRAcquisitionType": "3D", "MagneticFieldStrength": "3",
        "Manufacturer": vendor, "ManufacturerModelName": model, "Modality": modality,
        "PatientAge": f"{study % 95:03}Y", "PatientPosition": "HFS", "PatientSex": "MF"[study % 2],
        "PhotometricInterpretation": "MONOCHROME2", "PixelSpacing": ["0.8", "0.8"],
        "ProtocolName": f"{words} Routine", "ReconstructionDiameter": "400", "RepetitionTime": "600",
        "Rows": "512", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SamplesPerPixel": "1",
        "ScanningSequence": "GR", "SeriesDate": "20260102", "SeriesDescription": f"{words} {PHASES[member]} {spacing} {kernel}",
        "SeriesNumber": str(member + 2), "SeriesTime": f"{study % 24:02}{member:02}10", "SliceThickness": str(spacing),
        "SoftwareVersions": "VA50A", "SpiralPitchFactor": "0.8", "StationName": f"CT{study % 17}",
        "StudyDate": "20260102", "StudyDescription": words, "StudyTime": f"{study % 24:02}0000",
        "XRayTubeCurrent": "180",
    }
    if member:
        values["ContrastBolusAgent"] = "Iomeron 400"
    slices = int(coverage / spacing)
    geometry = {
        "slices": slices, "slice_spacing_mm": spacing, "pixel_spacing_mm": 0.8, "coverage_mm": slices * spacing,
        "plane": "axial", "volume_l": 512 * 512 * 0.64 * slices * spacing / 1e6,
    }
    line = {"study": study_uid, "series": series_uid, "instances": slices, "calling": f"CT_{study % 17}",
            "called": "PROSECTOR", "geometry": geometry, "values": values}
    return json.dumps(line, separators=(",", ":"))


def main(database, count):
    connection = sqlite3.connect(database)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = off")
    start = datetime.datetime(2026, 1, 1)
    revision = hashlib.sha256(b"earlier").hexdigest()
    studies, series, facts, routing = [], [], [], []

    def flush():
        connection.executemany("insert into study values (?, ?, ?)", studies)
        connection.executemany(
            "insert into series (series_instance_uid, study_instance_uid, modality, first_received_at, last_received_at, "
            "instance_count, revision, settled_revision, settled_at) values (?, ?, 'CT', ?, ?, 100, 1, 1, ?)", series)
        connection.executemany("insert into routing_fact values (?, ?, 1, ?, ?, ?)", facts)
        connection.executemany("insert into study_routing values (?, ?, 1, 0)", routing)
        connection.commit()
        for rows in (studies, series, facts, routing):
            rows.clear()

    for number in range(count):
        study, member = divmod(number, 3)
        time = (start + datetime.timedelta(seconds=30 * study)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        study_uid = f"1.2.826.0.1.3680043.8.498.{10**30 + study}"
        series_uid = f"{study_uid}.{member}"
        if member == 0:
            studies.append((study_uid, time, time))
            routing.append((study_uid, time))
        series.append((series_uid, study_uid, time, time, time))
        taken = json.dumps({"ct-abdomen": revision}) if study % 3 == 0 else "{}"
        facts.append((series_uid, study_uid, record(number, study_uid, series_uid), taken, time))
        if number % 30000 == 29999:
            flush()
    flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
