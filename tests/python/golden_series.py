"""End-to-end golden cases as DICOM series, and what a segmentation of them must hold.

    golden_series.py write PRE.safetensors FOLDER [CT|MR|PT]
    golden_series.py compare SEG.dcm PRE.safetensors E2E.safetensors

PRE holds `raw` [i, j, k] and its `affine` to RAS millimetres. Index i becomes the column, j the row and k the slice, so
that the stored grid of the series is that of the case. The series has the case's modality where none is given. The
comparison reads the segmentation with pydicom, places every frame by its own position, and is exact wherever the
reference probability is further than 0.002 from one half.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from safetensors import safe_open

UNDECIDED = 0.002
SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}


def lps(affine):
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def decimal(value):
    text = repr(float(value))
    return text if len(text) <= 16 else f"{value:.{16 - len(f'{value:.0f}') - 1}f}"[:16]


def write(case, folder, modality=None):
    case, folder = Path(case), Path(folder)
    with safe_open(case, "np") as tensors:
        raw, affine = tensors.get_tensor("raw"), lps(tensors.get_tensor("affine"))
        of_case = tensors.metadata()["modality"].lower()
    modality = modality or {"ct": "CT", "pet": "PT"}.get(of_case, "MR")
    columns, rows, slices = (affine[:3, axis] for axis in range(3))
    spacing = [np.linalg.norm(axis) for axis in (columns, rows)]
    study, series, frame = (generate_uid(entropy_srcs=[case.name, name]) for name in ("study", "series", "frame"))
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(raw.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = SOP_CLASSES[modality]
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[case.name, str(k)])
        image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID = meta.MediaStorageSOPClassUID
        image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Golden^Case", "GOLDEN", "", ""
        image.StudyDate = image.SeriesDate = image.ContentDate = "20260101"
        image.StudyTime = image.SeriesTime = image.ContentTime = "120000"
        image.AccessionNumber, image.ReferringPhysicianName, image.StudyID = "", "", "1"
        image.Modality, image.Manufacturer, image.ImageType = modality, "golden", ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.SeriesNumber, image.InstanceNumber, image.AcquisitionNumber = 1, k + 1, 1
        image.PositionReferenceIndicator = ""
        position = affine[:3, 3] + k * slices
        image.ImagePositionPatient = [decimal(value) for value in position]
        cosines = [*(columns / spacing[0]), *(rows / spacing[1])]
        image.ImageOrientationPatient = [decimal(value) for value in cosines]
        image.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]
        image.SliceThickness = decimal(np.linalg.norm(slices))
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = raw.shape[1], raw.shape[0]
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleIntercept, image.RescaleSlope = "0", "1"
        if modality == "CT":
            image.KVP = "120"
        image.PixelData = np.ascontiguousarray(raw[:, :, k].T.astype("<i2")).tobytes()
        image.save_as(folder / f"{k:03}.dcm", enforce_file_format=True)


def compare(segmentation, pre, e2e):
    with safe_open(pre, "np") as tensors:
        affine, shape = lps(tensors.get_tensor("affine")), tensors.get_tensor("raw").shape
    with safe_open(e2e, "np") as tensors:
        labels = json.loads(tensors.metadata()["labels"])
        probability = tensors.get_tensor("restored_linear_prob")
    seg = pydicom.dcmread(segmentation)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    numbers = {}
    for segment in seg.SegmentSequence:
        prompt = segment.SegmentLabel.lower()
        numbers[int(segment.SegmentNumber)] = [label.lower() for label in labels].index(prompt)
    masks = np.zeros((len(labels), *shape), bool)
    inverse = np.linalg.inv(affine)
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    for frame, groups in zip(pixels, seg.PerFrameFunctionalGroupsSequence):
        identification = groups if "SegmentIdentificationSequence" in groups else shared
        label = numbers[int(identification.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in zip(*np.nonzero(frame)):
            point = corner + orientation[:3] * spacing[1] * column + orientation[3:] * spacing[0] * row
            index = (inverse @ [*point, 1.0])[:3]
            nearest = np.rint(index).astype(int)
            assert np.abs(index - nearest).max() < 1e-3, f"a frame lies off the stored grid: {index}"
            masks[(label, *nearest)] = True
    decided = np.abs(probability - 0.5) > UNDECIDED
    different = (masks != (probability > 0.5)) & decided
    print(json.dumps({
        "voxels": masks.reshape(len(labels), -1).sum(1).tolist(),
        "expected": (probability > 0.5).reshape(len(labels), -1).sum(1).tolist(),
        "undecided": int((~decided).sum()),
        "different": int(different.sum()),
    }))
    assert masks.any(), "the case has no voxel to compare"
    assert not different.any()


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"write": write, "compare": compare}[command](*paths)
