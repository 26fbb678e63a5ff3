"""Makes the input of benches/load.rs: one CT series of 500 slices in five transfer syntaxes.

usage: make_series.py SLICES_FOLDER OUTPUT [DCMTK_FOLDER]

The slices of SLICES_FOLDER (real ones, JPEG 2000) are repeated at new positions under new UIDs until there are 500.
DCMTK writes JPEG-LS, JPEG Lossless and RLE; JPEG 2000 keeps the codestreams that were there.
"""

import subprocess
import sys
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

SLICES = 500
ENCODERS = {"jpeg-ls": "dcmcjpls", "jpeg-lossless": "dcmcjpeg", "rle": "dcmcrle"}


def main():
    sources = sorted(Path(sys.argv[1]).glob("*.dcm"))
    output = Path(sys.argv[2])
    dcmtk = Path(sys.argv[3] if len(sys.argv) > 3 else "/usr/bin")
    for syntax in ["native", "jpeg-2000", *ENCODERS]:
        (output / syntax).mkdir(parents=True, exist_ok=True)
    for i in range(SLICES):
        dataset = pydicom.dcmread(sources[i % len(sources)])
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, 2.0 * i]
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.10.99.500.{i + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = i + 1
        dataset.save_as(output / "jpeg-2000" / f"{i:03}.dcm")
        pixels = dataset.pixel_array
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset["PixelData"].is_undefined_length = False
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        native = output / "native" / f"{i:03}.dcm"
        dataset.save_as(native)
        for syntax, encoder in ENCODERS.items():
            command = [dcmtk / encoder, "--uid-never", native, output / syntax / f"{i:03}.dcm"]
            if syntax == "rle":
                command.remove("--uid-never")
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
