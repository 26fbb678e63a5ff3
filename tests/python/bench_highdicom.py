#!/usr/bin/env python3
"""Builds and writes a segmentation of ellipsoids with highdicom, for dicom-io/benches/seg.rs.

    bench_highdicom.py FOLDER SEGMENTS HALF_SPAN binary|labelmap

FOLDER holds the slices as *.dcm. Says "ready", then for every line of its input builds and writes once and prints wall
and CPU milliseconds.
"""

import math
import sys
import time
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes


def ellipsoid(k, shape, half_span):
    """The same shapes as in dicom-io/benches/seg.rs."""
    top = math.ceil(half_span)
    center = [top + (13 * k) % (shape[0] - 2 * top), 90 + 37 * k % 330, 90 + 61 * k % 330]
    radius = [half_span, 40 + 7 * k % 40, 40 + 11 * k % 40]
    squares = [((np.arange(n) - c) / r) ** 2 for n, c, r in zip(shape, center, radius)]
    return squares[0][:, None, None] + squares[1][:, None] + squares[2] < 1


def main():
    folder, segments = Path(sys.argv[1]), int(sys.argv[2])
    half_span, kind = float(sys.argv[3]), sys.argv[4]
    slices = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    shape = (len(slices), slices[0].Rows, slices[0].Columns)
    masks = [ellipsoid(k, shape, half_span) for k in range(segments)]
    if kind == "labelmap":
        # Every voxel belongs to the first that has it.
        pixels = np.zeros(shape, np.uint8)
        for k, mask in reversed(list(enumerate(masks))):
            pixels[mask] = k + 1
    else:
        pixels = np.stack(masks, axis=-1).astype(np.uint8)
    del masks
    algorithm = hd.AlgorithmIdentificationSequence(
        name="bench", version="1", family=codes.DCM.ArtificialIntelligence
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=k + 1,
            segment_label=f"target {k}",
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for k in range(segments)
    ]
    print("ready", flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        seg = hd.seg.Segmentation(
            source_images=slices,
            pixel_array=pixels,
            segmentation_type=kind.upper(),
            segment_descriptions=descriptions,
            series_instance_uid=hd.UID(),
            series_number=2,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="bench",
            manufacturer_model_name="bench",
            software_versions="1",
            device_serial_number="1",
            omit_empty_frames=True,
        )
        seg.save_as(folder / "highdicom.bin")
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"{1e3 * wall:.1f} {1e3 * cpu:.1f}", flush=True)


if __name__ == "__main__":
    main()
