"""Writes the truth of a phantom as NIfTI images, by way of SimpleITK's own reading of the series.

    truth_as_nifti.py SERIES TRUTH OUTPUT

SERIES is a folder of the series' files, TRUTH one in the layout of `check_seg.py --truth`. OUTPUT receives LABEL.nii.gz
for each label and labels.nii.gz with the value N for the N-th label in alphabetical order, where no later one lies.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk


def main(series, truth, output):
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
    image = sitk.ReadImage(files)
    order = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files]
    place = {uid: index for index, (uid, _) in enumerate(json.loads((truth / "slices.json").read_text()))}
    output.mkdir(parents=True, exist_ok=True)
    columns, rows, slices = image.GetSize()
    labels = np.zeros((slices, rows, columns), np.uint8)
    for number, path in enumerate(sorted(truth.glob("*.raw")), 1):
        mask = np.fromfile(path, np.uint8).reshape(slices, rows, columns)[[place[uid] for uid in order]]
        labels[mask > 0] = number
        write(mask, image, output / f"{path.stem}.nii.gz")
    write(labels, image, output / "labels.nii.gz")


def write(values, image, path):
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    sitk.WriteImage(result, str(path))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
