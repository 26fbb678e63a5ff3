#!/usr/bin/env python3
"""Reads the same object from two files of different transfer syntaxes and holds them against each other.

    check_compressed.py NATIVE COMPRESSED

Every element but Pixel Data is equal, every pixel is, and highdicom loads both. Ends with status 1 and the reason when
anything differs.
"""

import sys

import highdicom as hd
import numpy as np
import pydicom


def require(condition, message):
    if not condition:
        print(message)
        sys.exit(1)


def main():
    native, compressed = (pydicom.dcmread(path) for path in sys.argv[1:])
    syntaxes = [dataset.file_meta.TransferSyntaxUID for dataset in (native, compressed)]
    require(syntaxes[0] != syntaxes[1], "one transfer syntax")
    require(np.array_equal(native.pixel_array, compressed.pixel_array), "other pixels")
    for path in sys.argv[1:]:
        hd.seg.segread(path)
    for dataset in (native, compressed):
        del dataset.PixelData
    require(native == compressed, "other attributes")


if __name__ == "__main__":
    main()
