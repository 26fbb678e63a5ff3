#!/usr/bin/env python3
"""Decodes a Multi-frame True Color Secondary Capture with pydicom and holds it against its source.

    check_picture.py PICTURE SOURCE [--expected RAW]

SOURCE is one image of the series that the pictures show. --expected compares the pixels with RAW: frames, rows,
columns, red, green, blue, one byte each. Prints a JSON object with frames, rows and columns; ends with status 1 and
the reason when anything differs.
"""

import argparse
import json
import sys

import numpy as np
import pydicom

SHARED = "SpecificCharacterSet PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyID"


def require(condition, message):
    if not condition:
        print(message)
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("picture")
    parser.add_argument("source")
    parser.add_argument("--expected")
    arguments = parser.parse_args()
    picture = pydicom.dcmread(arguments.picture)
    source = pydicom.dcmread(arguments.source)

    kind = picture.SOPClassUID.name
    require(kind.startswith("Multi-frame True Color Secondary Capture"), kind)
    for keyword in SHARED.split():
        found, expected = (str(dataset.get(keyword) or "") for dataset in (picture, source))
        require(found == expected, f"{keyword} is not that of the source")
    require(picture.SeriesInstanceUID != source.SeriesInstanceUID, "the source's own series")
    referenced = picture.ReferencedSeriesSequence[0].SeriesInstanceUID
    require(referenced == source.SeriesInstanceUID, "another referenced series")
    require(picture.BurnedInAnnotation == "NO", "burned in annotation")

    pixels = picture.pixel_array
    shape = (picture.NumberOfFrames, picture.Rows, picture.Columns, 3)
    require(pixels.shape == shape, f"pixels of shape {pixels.shape}, not {shape}")
    pages = list(range(1, len(pixels) + 1))
    require(list(picture.PageNumberVector) == pages, "pages are not numbered from 1")
    require(all(frame.std() > 5 for frame in pixels), "a frame is blank")
    spread = pixels.max(axis=3).astype(int) - pixels.min(axis=3)
    require((spread > 40).any(), "nothing is coloured")
    if arguments.expected:
        expected = np.fromfile(arguments.expected, np.uint8).reshape(shape)
        require((pixels == expected).all(), "other pixels than were drawn")
    print(json.dumps({"frames": shape[0], "rows": shape[1], "columns": shape[2]}))


if __name__ == "__main__":
    main()
