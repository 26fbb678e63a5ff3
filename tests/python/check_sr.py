#!/usr/bin/env python3
"""Reads a TID 1500 report with highdicom and holds its numbers against segmentation and source images.

    check_sr.py SR SEG SOURCE...

Volume, mean and standard deviation of every segment are computed anew with numpy from the pixels of SEG and SOURCE, as
pydicom decodes them. Prints a JSON list of the groups; ends with status 1 and the reason when anything differs.
"""

import json
import sys

import highdicom as hd
import numpy as np
import pydicom
from pydicom.pixels import apply_rescale
from pydicom.sr.codedict import codes


def require(condition, message):
    if not condition:
        print(message)
        sys.exit(1)


def close(found, expected):
    return abs(found - expected) <= 1e-6 * max(1.0, abs(expected))


def voxel_volume_ml(images):
    """Of single-frame images: plane area times the distance of the planes along their normal."""
    normal = np.cross(*np.split(np.array(images[0].ImageOrientationPatient, float), 2))
    heights = sorted(np.array(image.ImagePositionPatient, float) @ normal for image in images)
    spacing = np.array(images[0].PixelSpacing, float)
    return spacing.prod() * (heights[-1] - heights[0]) / (len(images) - 1) / 1000


def main():
    report = hd.sr.srread(sys.argv[1])
    seg = pydicom.dcmread(sys.argv[2])
    images = [pydicom.dcmread(path) for path in sys.argv[3:]]
    values = {image.SOPInstanceUID: apply_rescale(image.pixel_array, image) for image in images}
    voxel_ml = voxel_volume_ml(images)
    require(report.StudyInstanceUID == images[0].StudyInstanceUID, "another study")
    require(report.PatientName == images[0].PatientName, "another patient")

    groups = report.content.get_volumetric_roi_measurement_groups()
    require(len(groups) == len(seg.SegmentSequence), "another number of groups than segments")
    result = []
    for item, group in zip(seg.SegmentSequence, groups):
        segment = group.referenced_segment
        require(segment.referenced_sop_instance_uid == seg.SOPInstanceUID, "another segmentation")
        require(segment.referenced_segment_numbers == [item.SegmentNumber], "another segment")
        require(group.tracking_identifier == item.SegmentLabel, "another label")
        require(group.tracking_uid == item.TrackingUID, "another tracking UID")
        inside = np.concatenate(
            [
                values[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID][mask > 0]
                for frame, mask in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array)
                if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == item.SegmentNumber
            ]
        ).astype(float)
        expected = [len(inside) * voxel_ml, inside.mean(), inside.std()]
        measurements = group.get_measurements()
        require(measurements[0].name == codes.SCT.Volume, "the first measurement is no volume")
        found = [measurement.value for measurement in measurements]
        require(len(found) == 3, "not three measurements")
        agree = all(close(a, b) for a, b in zip(found, expected))
        require(agree, f"segment {item.SegmentNumber}: {found} for {expected}")
        result.append({"label": item.SegmentLabel, "volume_ml": found[0], "mean": found[1]})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
