"""Writes the seeds of the fuzz targets: small sound inputs of each kind, from which mutation starts.

    python fuzz_seeds.py FOLDER

Needs pydicom, pynetdicom and DCMTK. The seeds are committed; run it again only to add to them.
"""

import io
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.filewriter import write_dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

CT = "1.2.840.10008.5.1.4.1.1.2"
COMMITMENT = "1.2.840.10008.1.20.1"
SIDE = 16


def slice_of(bits):
    dataset = Dataset()
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = "2.25.9"
    dataset.Modality = "CT"
    dataset.PatientName = "Phantom^Torso"
    dataset.PatientID = "PHANTOM"
    item = Dataset()
    item.ReferencedSOPClassUID = CT
    item.ReferencedSOPInstanceUID = "2.25.8"
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset.StudyInstanceUID = "2.25.1"
    dataset.SeriesInstanceUID = "2.25.2"
    dataset.InstanceNumber = 1
    dataset.ImagePositionPatient = [0, 0, 1]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = SIDE
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = -1024
    dataset.RescaleSlope = 1
    ramp = numpy.add.outer(numpy.arange(SIDE), numpy.arange(SIDE)) * (1 << (bits - 6))
    kind = numpy.uint8 if bits == 8 else numpy.uint16
    dataset.PixelData = ramp.astype(kind).tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT
    meta.MediaStorageSOPInstanceUID = "2.25.9"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def encoded(dataset, implicit, little):
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, little
    write_dataset(out, dataset)
    return out.getvalue()


def frame(path):
    return next(generate_frames(dcmread(path).PixelData, number_of_frames=1))


def pixel_seed(codec, bits, data):
    depth = ((bits - 1) << 2) | (1 if bits == 8 else 0)
    return bytes([codec, SIDE, SIDE, depth]) + data


def main(folder):
    def write(target, name, data):
        path = folder / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    ct = slice_of(12)
    explicit = encoded(ct, False, True)
    implicit = encoded(ct, True, True)
    for index, data in enumerate([explicit, implicit]):
        write("data_sets", ["explicit", "implicit"][index], bytes([index, 7]) + data)
    import zlib

    deflate = zlib.compressobj(wbits=-15)
    write("data_sets", "deflated", bytes([3, 7]) + deflate.compress(explicit) + deflate.flush())
    out = io.BytesIO()
    ct.save_as(out, enforce_file_format=True)
    write("data_sets", "part10", bytes([0, 50]) + out.getvalue())

    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        for bits in (8, 12):
            source = temporary / f"{bits}.dcm"
            slice_of(bits).save_as(source, enforce_file_format=True)
            rle = slice_of(bits)
            rle.compress(RLELossless, generate_instance_uid=False)
            rle.save_as(temporary / "rle.dcm", enforce_file_format=True)
            write("pixel_data", f"rle-{bits}", pixel_seed(0, bits, frame(temporary / "rle.dcm")))
            tools = [("lossless", 2, ["/usr/bin/dcmcjpeg", "+e1"]), ("jpeg-ls", 3, ["/usr/bin/dcmcjpls"])]
            if bits == 8:
                tools.append(("jpeg", 1, ["/usr/bin/dcmcjpeg", "+eb"]))
            for name, codec, command in tools:
                out = temporary / "out.dcm"
                subprocess.run([*command, source, out], check=True)
                write("pixel_data", f"{name}-{bits}", pixel_seed(codec, bits, frame(out)))
        from PIL import Image

        image = io.BytesIO()
        Image.fromarray(slice_of(8).pixel_array).save(image, "JPEG2000", no_jp2=True)
        write("pixel_data", "j2k-8", pixel_seed(4, 8, image.getvalue()))

    def pdu(kind, body):
        return struct.pack(">BxI", kind, len(body)) + body

    def item(kind, body):
        return struct.pack(">BxH", kind, len(body)) + body

    context = struct.pack("4B", 1, 0, 0, 0) + item(0x30, CT.encode())
    context += item(0x40, b"1.2.840.10008.1.2.1") + item(0x40, b"1.2.840.10008.1.2")
    commitment = struct.pack("4B", 3, 0, 0, 0) + item(0x30, COMMITMENT.encode())
    commitment += item(0x40, b"1.2.840.10008.1.2")
    roles = struct.pack(">H", len(COMMITMENT)) + COMMITMENT.encode() + b"\1\1"
    user = item(0x51, struct.pack(">I", 16384)) + item(0x54, roles) + item(0x55, b"SEED")
    request = b"\0\1\0\0" + b"PROSECTOR".ljust(16) + b"SEED".ljust(16) + bytes(32)
    request += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context)
    request += item(0x20, commitment) + item(0x50, user)
    write("pdus", "request", request)
    accepted = struct.pack("4B", 1, 0, 0, 0) + item(0x40, b"1.2.840.10008.1.2.1")
    write("pdus", "acceptance", request[:68] + item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x21, accepted) + item(0x50, user))
    (folder / "association_request.bin").write_bytes(pdu(1, request))

    def command(*elements):
        body = b"".join(struct.pack("<HHI", 0, number, len(value)) + value for number, value in elements)
        return struct.pack("<HHII", 0, 0, 4, len(body)) + body

    def uid(text):
        return text.encode() + b"\0" * (len(text) % 2)

    def number(value):
        return struct.pack("<H", value)

    store = command((0x0002, uid(CT)), (0x0100, number(1)), (0x0110, number(1)), (0x0700, number(0)),
                    (0x0800, number(0)), (0x1000, uid("2.25.9")))
    echo = command((0x0002, uid("1.2.840.10008.1.1")), (0x0100, number(0x30)), (0x0110, number(2)), (0x0800, number(0x101)))
    action = command((0x0003, uid(COMMITMENT)), (0x0100, number(0x130)), (0x0110, number(3)), (0x0800, number(0)),
                     (0x1001, uid("1.2.840.10008.1.20.1.1")), (0x1008, number(1)))
    write("command_sets", "store", store)
    write("command_sets", "echo", echo)
    asked = Dataset()
    asked.TransactionUID = "2.25.99"
    asked.ReferencedSOPSequence = ct.ReferencedImageSequence
    write("command_sets", "commitment", encoded(asked, True, True))

    def value(context_id, control, data):
        return pdu(4, struct.pack(">IBB", len(data) + 2, context_id, control) + data)

    release = pdu(5, bytes(4))
    messages = value(1, 3, store) + value(1, 0, explicit[:400]) + value(1, 2, explicit[400:])
    write("association", "store", b"\0" + messages + release)
    asking = value(3, 3, action) + value(3, 2, encoded(asked, True, True))
    write("association", "commitment", b"\0" + asking + release)
    write("association", "raw", b"\1" + pdu(1, request) + value(1, 3, echo) + release)
    write("pdus", "values", (value(1, 3, echo) + value(1, 0, b"part"))[6:])
    for index, text in enumerate(["1.2.840.10008.1.1", "2.25.212708283261893853686926143256554371023", "PROSECTOR_1", "10.1.0.0/16", "1..2", "../x", "2001:db8::/32"]):
        write("uids", str(index), text.encode())


main(Path(sys.argv[1]))
