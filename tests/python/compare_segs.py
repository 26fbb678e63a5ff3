#!/usr/bin/env python3
"""Compares two DICOM Segmentations of one series with highdicom, never with our own reader.

    compare_segs.py SEG OTHER SOURCE

Prints a JSON object: for each segment label of either the Dice of both masks, by source image, and both voxel counts.
"""

import json
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom


def masks(path, sources):
    segmentation = hd.seg.segread(path)
    numbers = list(segmentation.segment_numbers)
    pixels = segmentation.get_pixels_by_source_instance(
        sources, segment_numbers=numbers, ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
    return {
        segmentation.get_segment_description(number).segment_label: pixels[..., index] > 0
        for index, number in enumerate(numbers)
    }


def main(first, second, source):
    sources = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in sorted(Path(source).glob("*.dcm"))]
    found = [masks(first, sources), masks(second, sources)]
    compared = {}
    for label in sorted(set(found[0]) | set(found[1])):
        a, b = (own.get(label, np.zeros(1, bool)) for own in found)
        voxels = int(a.sum()), int(b.sum())
        dice = 2.0 * float((a & b).sum()) / sum(voxels)
        compared[label] = {"dice": dice, "voxels": voxels}
    print(json.dumps(compared))


if __name__ == "__main__":
    main(*sys.argv[1:])
