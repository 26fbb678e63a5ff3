#!/usr/bin/env python3
"""Reads an RT Structure Set with pydicom and fills its contours with numpy.

    check_rtstruct.py RTSTRUCT SOURCE... [--expected FOLDER] [--segmentation SEG]

SOURCE are the images of the series. Every contour must be closed and planar, and lie in the plane of the image that it
refers to. --expected compares the pixels inside with FOLDER/segment-N.raw, one byte a voxel, slices in the order of
FOLDER/slices.json; --segmentation with the frames of a binary SEG of the same job. Prints a JSON list of the regions;
ends with status 1 and the reason when anything differs.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pydicom


def require(condition, message):
    if not condition:
        print(message)
        sys.exit(1)


def planes(images):
    """Per instance and frame: position, directions of column and row index times spacing, rows and columns."""
    found = {}
    for image in images:
        frames = image.get("PerFrameFunctionalGroupsSequence")
        if frames is None:
            spacing = np.array(image.PixelSpacing, float)
            orientation = np.array(image.ImageOrientationPatient, float)
            place = np.array(image.ImagePositionPatient, float)
            key = (image.SOPInstanceUID, None)
            found[key] = (place, orientation[:3] * spacing[1], orientation[3:] * spacing[0], image.Rows, image.Columns)
            continue
        shared = image.SharedFunctionalGroupsSequence[0]
        for number, frame in enumerate(frames, 1):
            group = lambda name: (frame.get(name) or shared.get(name))[0]
            spacing = np.array(group("PixelMeasuresSequence").PixelSpacing, float)
            orientation = np.array(group("PlaneOrientationSequence").ImageOrientationPatient, float)
            place = np.array(group("PlanePositionSequence").ImagePositionPatient, float)
            key = (image.SOPInstanceUID, number)
            found[key] = (place, orientation[:3] * spacing[1], orientation[3:] * spacing[0], image.Rows, image.Columns)
    return found


def filled(points, plane):
    """Pixels whose centres lie inside, by an even number of crossings or not."""
    place, right, down, rows, columns = plane
    offsets = points - place
    at_column, at_row = offsets @ right / (right @ right), offsets @ down / (down @ down)
    off = offsets - np.outer(at_column, right) - np.outer(at_row, down)
    require(np.abs(off).max() < 2e-3, f"a contour lies {np.abs(off).max()} mm off its image")
    inside = np.zeros((rows, columns), bool)
    centres = np.arange(columns)
    for row in range(max(0, int(at_row.min())), min(rows - 1, int(at_row.max()) + 1) + 1):
        next_row, next_column = np.roll(at_row, -1), np.roll(at_column, -1)
        crosses = (at_row > row) != (next_row > row)
        share = (row - at_row[crosses]) / (next_row - at_row)[crosses]
        places = at_column[crosses] + share * (next_column - at_column)[crosses]
        inside[row] = (places[:, None] > centres).sum(axis=0) % 2 == 1
    return inside


def masks_of_seg(path):
    seg = pydicom.dcmread(path)
    masks = {}
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, mask in zip(seg.PerFrameFunctionalGroupsSequence, pixels):
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        frame_number = image.get("ReferencedFrameNumber")
        masks[number, image.ReferencedSOPInstanceUID, frame_number and int(frame_number)] = mask > 0
    return masks


def masks_of_folder(folder, count, shape):
    slices = json.loads((folder / "slices.json").read_text())
    masks = {}
    for number in range(1, count + 1):
        raw = np.fromfile(folder / f"segment-{number}.raw", np.uint8).reshape(len(slices), *shape)
        for (uid, frame), mask in zip(slices, raw > 0):
            masks[number, uid, frame] = mask
    return masks


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rtstruct")
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--expected", type=Path)
    parser.add_argument("--segmentation")
    arguments = parser.parse_args()
    structures = pydicom.dcmread(arguments.rtstruct)
    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in arguments.sources]
    by_image = planes(images)
    require(structures.StudyInstanceUID == images[0].StudyInstanceUID, "another study")
    require(structures.PatientName == images[0].PatientName, "another patient")
    referenced = structures.ReferencedFrameOfReferenceSequence[0]
    require(referenced.FrameOfReferenceUID == images[0].FrameOfReferenceUID, "another frame of reference")

    regions = structures.StructureSetROISequence
    require(len(structures.ROIContourSequence) == len(regions), "regions without contours")
    shape = next(iter(by_image.values()))[3:]
    found = {}
    for contours in structures.ROIContourSequence:
        number = int(contours.ReferencedROINumber)
        for contour in contours.ContourSequence:
            require(contour.ContourGeometricType == "CLOSED_PLANAR", contour.ContourGeometricType)
            image = contour.ContourImageSequence[0]
            frame = image.get("ReferencedFrameNumber")
            key = (number, image.ReferencedSOPInstanceUID, frame and int(frame))
            data = contour.ContourData
            if isinstance(data, bytes):
                data = data.decode().strip().split("\\")
            points = np.array(data, float).reshape(-1, 3)
            require(len(points) == contour.NumberOfContourPoints, "another number of points")
            inside = filled(points, by_image[key[1:]])
            require(not (found.get(key, False) & inside).any(), "two contours of a region overlap")
            found[key] = found.get(key, np.zeros(shape, bool)) | inside

    if arguments.segmentation:
        expected = masks_of_seg(arguments.segmentation)
    elif arguments.expected:
        expected = masks_of_folder(arguments.expected, len(regions), shape)
    else:
        expected = found
    for key in expected.keys() | found.keys():
        empty = np.zeros(shape, bool)
        same = (expected.get(key, empty) == found.get(key, empty)).all()
        require(same, f"region {key[0]} encloses other pixels on image {key[1]}, frame {key[2]}")
    print(json.dumps([{"number": int(r.ROINumber), "name": r.ROIName} for r in regions]))


if __name__ == "__main__":
    main()
