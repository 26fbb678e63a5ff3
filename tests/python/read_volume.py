"""Reads stacks with pydicom and highdicom, for comparison with our own reader.

usage: read_volume.py OUTPUT < lines of "stack<TAB>frame<TAB>path", frame 0 for single-frame instances

For every stack, in order of appearance: writes OUTPUT/STACK.f64 (slice, row, column; little endian) and prints, on one
line each, the shape, the 4x4 matrix from [slice, row, column] to LPS millimetres with the mean step between the
positions, and highdicom's matrix, or nothing where highdicom knows no such volume. Slices come in ascending order along
the normal.
"""

import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut


def with_highdicom(paths, frames):
    """Values and matrix by highdicom; None where it knows no such volume, as with a gantry tilt."""
    datasets = [pydicom.dcmread(path) for path in paths]
    for dataset in datasets:
        # highdicom reads no positions without one.
        if not dataset.get("FrameOfReferenceUID"):
            dataset.FrameOfReferenceUID = "1.2.3"
    options = {"apply_real_world_transform": False}
    try:
        if frames == [0] * len(frames):
            volume = hd.get_volume_from_series(datasets, apply_presentation_lut=False, **options)
        elif len(set(paths)) == 1 and len(frames) == datasets[0].NumberOfFrames:
            volume = hd.Image.from_dataset(datasets[0]).get_volume(apply_presentation_lut=False, **options)
        else:
            return None
    except (ValueError, RuntimeError, AttributeError):
        return None
    return volume.array, volume.affine


def functional_group(dataset, frame, sequence):
    """First item of a functional group: the frame's own, else the shared one."""
    own = dataset.PerFrameFunctionalGroupsSequence[frame - 1]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    return (own if sequence in own else shared)[sequence].value[0]


def with_numpy(paths, frames):
    """Values and matrix from each slice's own position, whatever the direction in which they are stacked."""
    slices = []
    opened = {path: pydicom.dcmread(path) for path in set(paths)}
    for path, frame in zip(paths, frames):
        dataset = opened[path]
        if frame == 0:
            position, plane, measures, transformation = dataset, dataset, dataset, dataset
            pixels = dataset.pixel_array
        else:
            position = functional_group(dataset, frame, "PlanePositionSequence")
            plane = functional_group(dataset, frame, "PlaneOrientationSequence")
            measures = functional_group(dataset, frame, "PixelMeasuresSequence")
            transformation = functional_group(dataset, frame, "PixelValueTransformationSequence")
            pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)[frame - 1]
        values = apply_modality_lut(pixels, transformation).astype(np.float64)
        slices.append((np.array(position.ImagePositionPatient, float), values))
    along_row, along_column = np.array(plane.ImageOrientationPatient, float).reshape(2, 3)
    along_row /= np.linalg.norm(along_row)
    along_column -= along_row * (along_row @ along_column)
    along_column /= np.linalg.norm(along_column)
    normal = np.cross(along_row, along_column)
    slices.sort(key=lambda item: item[0] @ normal)
    row_spacing, column_spacing = (float(mm) for mm in measures.PixelSpacing)
    matrix = np.eye(4)
    matrix[:3, 0] = (slices[-1][0] - slices[0][0]) / (len(slices) - 1)
    matrix[:3, 1] = along_column * row_spacing
    matrix[:3, 2] = along_row * column_spacing
    matrix[:3, 3] = slices[0][0]
    return np.stack([values for _, values in slices]), matrix


def ascending(values, matrix):
    """Turns the slices so that they ascend along row direction cross column direction."""
    normal = np.cross(matrix[:3, 2], matrix[:3, 1])
    if matrix[:3, 0] @ normal >= 0:
        return values, matrix
    turned = matrix.copy()
    turned[:3, 3] += matrix[:3, 0] * (len(values) - 1)
    turned[:3, 0] *= -1
    return values[::-1], turned


def read(output, stack, paths, frames):
    values, matrix = ascending(*with_numpy(paths, frames))
    values.astype("<f8").tofile(output / f"{stack}.f64")
    print(*values.shape)
    print(*(repr(float(number)) for number in matrix.reshape(-1)))
    placed = with_highdicom(paths, frames)
    if placed is None:
        print()
        return
    others, matrix = ascending(*placed)
    assert np.array_equal(values, others), "highdicom and pydicom read other values"
    print(*(repr(float(number)) for number in matrix.reshape(-1)))


def main():
    stacks = {}
    for line in sys.stdin:
        stack, frame, path = line.rstrip("\n").split("\t", 2)
        paths, frames = stacks.setdefault(stack, ([], []))
        paths.append(path)
        frames.append(int(frame))
    for stack, (paths, frames) in stacks.items():
        read(Path(sys.argv[1]), stack, paths, frames)


if __name__ == "__main__":
    main()
