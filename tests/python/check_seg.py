#!/usr/bin/env python3
"""Reads a DICOM Segmentation with pydicom and highdicom, never with our own reader, and holds it against its source.

    check_seg.py SEG SOURCE... [--expected FOLDER] [--truth FOLDER] [--dcmqi]

SOURCE are files or folders that hold the images the segmentation was made from. Every frame must lie on the image it
refers to: same position, orientation, spacing, rows and columns. Patient, study and frame of reference must be those
of the source. highdicom and pydicom must see the same voxels, by source image and as a volume.

--expected FOLDER compares voxel by voxel with FOLDER/segment-N.raw, one byte a voxel, slices in the order of
FOLDER/slices.json, a list of [SOP Instance UID, frame number or null].
--truth FOLDER adds to each segment its Dice with FOLDER/LABEL.raw, in the same layout.
--dcmqi compares with what dcmqi's segimage2itkimage makes of the object, by position in the patient.

Prints a JSON object: per segment number, label, codes, voxels, volume and centroid in the patient (LPS, mm). Ends with
status 1 and the reason when anything differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

POSITION_TOLERANCE_MM = 1e-3
ORIENTATION_TOLERANCE = 1e-6

COPIED = """
    SpecificCharacterSet PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate
    StudyTime StudyID StudyDescription AccessionNumber ReferringPhysicianName PositionReferenceIndicator
""".split()

TYPE_2 = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber ReferringPhysicianName StudyID
    SeriesNumber PositionReferenceIndicator ContentCreatorName ContentDescription
""".split()


class Mismatch(Exception):
    """The object and its source, or two readers, disagree."""


def require(condition, message):
    if not condition:
        raise Mismatch(message)


def numbers(value):
    return np.array([float(v) for v in value])


def functional_group(frame, shared, name):
    """Item of a functional group, which is either the frame's own or shared."""
    if name in frame:
        return frame[name].value[0]
    require(shared is not None and name in shared, f"functional group {name} is missing")
    return shared[name].value[0]


class Plane:
    """Where an image lies in the patient."""

    def __init__(self, position, orientation, spacing, rows, columns):
        self.position = position
        self.orientation = orientation
        self.spacing = spacing
        self.rows = rows
        self.columns = columns

    def points(self, rows, columns):
        """Centres of pixels, LPS in mm."""
        along_row = np.outer(columns * self.spacing[1], self.orientation[:3])
        along_column = np.outer(rows * self.spacing[0], self.orientation[3:])
        return self.position + along_row + along_column


def plane_of_frame(dataset, index):
    frame = dataset.PerFrameFunctionalGroupsSequence[index]
    shared = dataset.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in dataset else None
    measures = functional_group(frame, shared, "PixelMeasuresSequence")
    return Plane(
        numbers(functional_group(frame, shared, "PlanePositionSequence").ImagePositionPatient),
        numbers(functional_group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient),
        numbers(measures.PixelSpacing),
        dataset.Rows,
        dataset.Columns,
    )


def plane_of_image(dataset):
    return Plane(
        numbers(dataset.ImagePositionPatient),
        numbers(dataset.ImageOrientationPatient),
        numbers(dataset.PixelSpacing),
        dataset.Rows,
        dataset.Columns,
    )


def source_files(arguments):
    for argument in map(Path, arguments):
        if argument.is_dir():
            yield from sorted(path for path in argument.rglob("*") if path.is_file())
        else:
            yield argument


def read_source(arguments, series_uid):
    """Images of the series, by SOP Instance UID and frame number (None in a single-frame image), and one header."""
    planes, header = {}, None
    for path in source_files(arguments):
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            continue
        if dataset.get("SeriesInstanceUID") != series_uid:
            continue
        header = header or dataset
        if "PerFrameFunctionalGroupsSequence" in dataset:
            for index in range(len(dataset.PerFrameFunctionalGroupsSequence)):
                planes[dataset.SOPInstanceUID, index + 1] = plane_of_frame(dataset, index)
        elif "ImagePositionPatient" in dataset:
            planes[dataset.SOPInstanceUID, None] = plane_of_image(dataset)
    require(planes, "no image of the referenced series was found")
    return planes, header


def own_space(series_uid):
    """Frame of reference of results of a series that states none."""
    return f"2.25.{uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_OID, series_uid), 'frame of reference').int}"


def check_header(seg, source):
    for keyword in TYPE_2:
        require(keyword in seg, f"{keyword} is missing")
    for keyword in COPIED:
        ours, theirs = seg.get(keyword), source.get(keyword)
        require((ours or "") == (theirs or ""), f"{keyword} is not that of the source")
    space = source.get("FrameOfReferenceUID") or own_space(source.SeriesInstanceUID)
    require(seg.get("FrameOfReferenceUID") == space, "the frame of reference is not that of the source")
    require(seg.SeriesInstanceUID != source.SeriesInstanceUID, "the series is that of the source")
    require(seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID, "meta group names another instance")


def is_labelmap(seg):
    return seg.SegmentationType == "LABELMAP"


def described(seg):
    """Items of the segments, the background of a label map left out."""
    return [item for item in seg.SegmentSequence if item.SegmentNumber != 0 or not is_labelmap(seg)]


def source_of_frame(frame):
    require(len(frame.DerivationImageSequence) == 1, "more than one derivation")
    images = frame.DerivationImageSequence[0].SourceImageSequence
    require(len(images) == 1, "more than one source image")
    number = images[0].get("ReferencedFrameNumber")
    return images[0].ReferencedSOPInstanceUID, None if number is None else int(number)


def check_frames(seg, planes):
    """Every frame on its source image. Returns per frame (segment number or None in a label map, source image)."""
    frames = []
    referenced = {
        instance.ReferencedSOPInstanceUID
        for instance in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    for index, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        key = source_of_frame(frame)
        require(key[0] in referenced, f"frame {index + 1}: source is not in Referenced Series Sequence")
        require(key in planes, f"frame {index + 1}: source image is unknown")
        ours, theirs = plane_of_frame(seg, index), planes[key]
        off = np.linalg.norm(ours.position - theirs.position)
        require(off <= POSITION_TOLERANCE_MM, f"frame {index + 1} lies {off:.4f} mm off its source image")
        turned = np.abs(ours.orientation - theirs.orientation).max()
        require(turned <= ORIENTATION_TOLERANCE, f"frame {index + 1} is turned against its source image")
        require(np.allclose(ours.spacing, theirs.spacing, rtol=0, atol=1e-6), f"frame {index + 1}: spacing differs")
        require((ours.rows, ours.columns) == (theirs.rows, theirs.columns), f"frame {index + 1}: size differs")
        number = None
        if not is_labelmap(seg):
            shared = seg.SharedFunctionalGroupsSequence[0]
            number = functional_group(frame, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
        frames.append((number, key))
    require(len(set(frames)) == len(frames), "two frames show the same segment on the same image")
    return frames


def check_dimension_index(seg, frames, planes):
    """Dimension index values say segment and place along the normal, and agree between segments."""
    normal = np.cross(*np.split(plane_of_frame(seg, 0).orientation, 2))
    occurring = sorted({key for _, key in frames}, key=lambda key: planes[key].position @ normal)
    place = {key: index + 1 for index, key in enumerate(occurring)}
    if not is_labelmap(seg):
        values = [tuple(f.FrameContentSequence[0].DimensionIndexValues) for f in seg.PerFrameFunctionalGroupsSequence]
        require(values == [(number, place[key]) for number, key in frames], "dimension index values are wrong")
    else:
        # One value alone is read as a number, not a list.
        values = [(f.FrameContentSequence[0].DimensionIndexValues,) for f in seg.PerFrameFunctionalGroupsSequence]
        require(values == [(place[key],) for _, key in frames], "dimension index values are wrong")
    require(values == sorted(values), "frames are not in the order of their dimension index")


def pixels_by_frame(seg):
    pixels = seg.pixel_array
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    require(len(pixels) == seg.NumberOfFrames, "pydicom reads another number of frames")
    return pixels


def split_labels(seg, frames, pixels):
    """A label map as one frame for each segment and image, as a binary segmentation has them."""
    numbers_described = {item.SegmentNumber for item in described(seg)}
    found = set(np.unique(pixels)) - {0}
    require(found == numbers_described, f"values {sorted(found)} for segments {sorted(numbers_described)}")
    pairs = [
        ((number, key), (image == number).astype(np.uint8))
        for number in sorted(found)
        for (_, key), image in zip(frames, pixels)
        if (image == number).any()
    ]
    return [frame for frame, _ in pairs], np.stack([image for _, image in pairs])


def check_highdicom(path, frames, pixels, planes):
    """highdicom sees the voxels that pydicom sees, by source image and as a volume."""
    seg = hd.seg.segread(path)
    segment_numbers = [item.SegmentNumber for item in described(seg)]
    require(segment_numbers == list(range(1, len(segment_numbers) + 1)), "segment numbers have gaps")
    keys = sorted({key for _, key in frames}, key=str)
    by_frame = dict(zip(frames, pixels))
    empty = np.zeros_like(pixels[0])
    # highdicom 0.28.2 separates label values in eight bits, so a label map is read as it is.
    options = dict(
        ignore_spatial_locations=False,
        assert_missing_frames_are_empty=True,
        combine_segments=is_labelmap(seg),
    )

    def of_segment(seen, number):
        """Pixels of one segment out of an array of highdicom's."""
        return seen == number if is_labelmap(seg) else seen[..., segment_numbers.index(number)]

    if keys[0][1] is None:
        seen = seg.get_pixels_by_source_instance([key[0] for key in keys], **options)
    else:
        seen = seg.get_pixels_by_source_frame(keys[0][0], [key[1] for key in keys], **options)
    for number in segment_numbers:
        for key, image in zip(keys, of_segment(seen, number)):
            expected = by_frame.get((number, key), empty)
            require(np.array_equal(image, expected), f"highdicom reads segment {number} otherwise than pydicom")
    geometry = seg.get_volume_geometry()
    if geometry is None:
        return False
    volume = seg.get_volume(combine_segments=is_labelmap(seg))
    array = volume.array
    places = {key: planes[key].position for key in keys}
    for k in range(array.shape[0]):
        position = volume.map_indices_to_reference(np.array([[k, 0, 0]]))[0]
        on_it = [key for key in keys if np.linalg.norm(places[key] - position) < 0.05]
        for number in segment_numbers:
            expected = by_frame.get((number, on_it[0]), empty) if on_it else empty
            found = of_segment(array[k], number)
            require(np.array_equal(found, expected), f"highdicom's volume differs in segment {number}")
    return True


def read_slices(folder):
    return [tuple(entry) for entry in json.loads((folder / "slices.json").read_text())]


def add_dice(folder, segments, frames, pixels):
    """Overlap of every segment with the truth of its label."""
    slices, by_frame = read_slices(folder), dict(zip(frames, pixels))
    empty = np.zeros_like(pixels[0])
    for segment in segments:
        truth = np.fromfile(folder / f"{segment['label']}.raw", np.uint8).reshape(len(slices), *pixels.shape[1:])
        found = np.stack([by_frame.get((segment["number"], key), empty) for key in slices])
        require(found.sum() == segment["voxels"], f"segment {segment['number']} has voxels outside the series")
        segment["dice"] = float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def check_expected(folder, frames, pixels):
    slices = read_slices(folder)
    by_frame = dict(zip(frames, pixels))
    numbers_found = {number for number, _ in frames}
    files = sorted(folder.glob("segment-*.raw"))
    require(len(files) == len(numbers_found), "another number of segments than expected")
    for path in files:
        number = int(path.stem.split("-")[1])
        expected = np.fromfile(path, np.uint8).reshape(len(slices), *pixels.shape[1:])
        for key, image in zip(slices, expected):
            found = by_frame.get((number, key))
            if found is None:
                require(not image.any(), f"segment {number} lacks a frame on {key}")
            else:
                require(np.array_equal(found, image), f"segment {number} differs from its mask on {key}")


def sorted_points(points):
    """Points on a grid of a hundredth of a millimetre, in one order."""
    rounded = np.round(points, 2) + 0.0
    return rounded[np.lexsort(rounded.T[::-1])]


def check_dcmqi(path, points, one_file):
    """dcmqi puts the voxels of every segment where pydicom's frames have them."""
    import SimpleITK

    program = Path(sys.executable).parent / "segimage2itkimage"
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "segment"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        require(done.returncode == 0, f"dcmqi cannot read it: {done.stdout[-600:]}{done.stderr[-600:]}")
        for number, expected in points.items():
            image = SimpleITK.ReadImage(str(Path(folder) / f"segment-{1 if one_file else number}.nrrd"))
            values = SimpleITK.GetArrayViewFromImage(image)
            # A label map comes out as one image of label values.
            voxels = np.argwhere(values == number if one_file else values > 0)[:, ::-1]
            matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
            seen = voxels @ matrix.T + np.array(image.GetOrigin())
            require(len(seen) == len(expected), f"dcmqi sees {len(seen)} voxels in segment {number}, not {len(expected)}")
            off = np.abs(sorted_points(seen) - sorted_points(expected)).max()
            require(off < 0.05, f"dcmqi puts voxels of segment {number} {off:.3f} mm elsewhere")


def code(item):
    return [item.get("CodeValue") or item.get("LongCodeValue"), item.CodingSchemeDesignator, item.CodeMeaning]


def describe(seg, frames, pixels, planes):
    """What a person wants to know of each segment, and the places of its voxels."""
    result, points = [], {}
    for item in described(seg):
        own = [
            planes[key].points(*np.nonzero(image))
            for (number, key), image in zip(frames, pixels)
            if number == item.SegmentNumber
        ]
        require(own, f"segment {item.SegmentNumber} has no frame")
        own = np.concatenate(own)
        points[item.SegmentNumber] = own
        result.append(
            {
                "number": item.SegmentNumber,
                "label": item.SegmentLabel,
                "category": code(item.SegmentedPropertyCategoryCodeSequence[0]),
                "type": code(item.SegmentedPropertyTypeCodeSequence[0]),
                "voxels": len(own),
                "centroid_mm": [round(float(v), 4) for v in own.mean(axis=0)],
            }
        )
    return result, points


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seg", type=Path)
    parser.add_argument("source", nargs="+")
    parser.add_argument("--expected", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--dcmqi", action="store_true")
    arguments = parser.parse_args()

    seg = pydicom.dcmread(arguments.seg)
    planes, header = read_source(arguments.source, seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    check_header(seg, header)
    frames = check_frames(seg, planes)
    check_dimension_index(seg, frames, planes)
    pixels = pixels_by_frame(seg)
    if is_labelmap(seg):
        frames, pixels = split_labels(seg, frames, pixels)
    require(all(image.any() for image in pixels), "a frame has no voxel")
    is_volume = check_highdicom(arguments.seg, frames, pixels, planes)
    if arguments.expected:
        check_expected(arguments.expected, frames, pixels)
    segments, points = describe(seg, frames, pixels, planes)
    if arguments.truth:
        add_dice(arguments.truth, segments, frames, pixels)
    if arguments.dcmqi:
        check_dcmqi(arguments.seg, points, is_labelmap(seg))
    print(json.dumps({"segments": segments, "frames": len(frames), "highdicom_volume": is_volume}))


if __name__ == "__main__":
    try:
        main()
    except Mismatch as mismatch:
        print(f"{sys.argv[1]}: {mismatch}")
        sys.exit(1)
