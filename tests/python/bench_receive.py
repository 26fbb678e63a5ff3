"""How many slices a second does `prosector serve` take, durable, beside DCMTK's storescp?

    python bench_receive.py PROSECTOR FOLDER [REPETITIONS]

500 made-up CT slices of 512x512 come from dcmsend over loopback, over one association and over eight, to `prosector
serve --role listen` (SQLite, every instance synced and recorded before it is answered) and to `storescp +B`, which syncs
nothing, in turn. FOLDER lies on the disk in question. Beside them: how many files of that size the disk takes a second,
each written, synced, renamed and its folder synced by one thread. Prints a table with medians and ranges.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SLICES, SIDE = 500, 512
CT = "1.2.840.10008.5.1.4.1.1.2"
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def write_slices(folder, associations):
    chance = numpy.random.default_rng(1)
    for number in range(SLICES):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"2.25.1000.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", f"2.25.1.{1 + number % associations}"
        dataset.Modality, dataset.InstanceNumber = "CT", number + 1
        dataset.Rows = dataset.Columns = SIDE
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = chance.integers(0, 4096, (SIDE, SIDE), numpy.uint16).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = CT
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / str(number % associations) / f"{number:03}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def usage(pid):
    """CPU seconds, waited-for children included, and peak memory in MiB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return cpu, int(peak.split()[1]) / 1024


def send(source, port, associations):
    start = time.monotonic()
    senders = [
        subprocess.Popen(
            ["/usr/bin/dcmsend", "-aec", "PROSECTOR", "--no-uid-checks", "+sd", "127.0.0.1", str(port), source / str(part)],
            env=ENVIRONMENT,
        )
        for part in range(associations)
    ]
    assert all(sender.wait() == 0 for sender in senders)
    return time.monotonic() - start


def measure(command, folder, source, port, associations, environment):
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        before, _ = usage(server.pid)
        seconds = send(source, port, associations)
        after, peak = usage(server.pid)
        return seconds, after - before, peak
    finally:
        server.kill()
        server.wait()


def prosector(binary, folder, source, associations):
    port = free_port()
    (folder / "prosector.toml").write_text('[completeness]\nquiet = "1h"\n[log]\nlevel = "warn"\n')
    environment = {**ENVIRONMENT, "PROSECTOR__LISTENER__BIND": f"127.0.0.1:{port}"}
    command = [binary, "--config", "prosector.toml", "serve", "--role", "listen"]
    return measure(command, folder, source, port, associations, environment)


def storescp(folder, source, associations):
    port = free_port()
    command = ["/usr/bin/storescp", "+B", "--output-directory", folder]
    command += ["--fork"] if associations > 1 else []
    return measure([*command, str(port)], folder, source, port, associations, ENVIRONMENT)


def disk(folder, size):
    data = os.urandom(size)
    directory = os.open(folder, os.O_RDONLY)
    start = time.monotonic()
    for number in range(100):
        path = folder / f"{number}.part"
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.rename(folder / f"{number}.dcm")
        os.fsync(directory)
    os.close(directory)
    return 100 / (time.monotonic() - start)


def main(binary, root, repetitions):
    root.mkdir(parents=True, exist_ok=True)
    size = None
    print("| receiver | associations | instances/s, median (range) | MB/s | CPU s/GB | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for associations in (1, 8):
        source = root / f"source-{associations}"
        write_slices(source, associations)
        size = next(source.rglob("*.dcm")).stat().st_size
        rows = {"prosector, durable": [], "storescp +B, not synced": []}
        for _ in range(repetitions):
            for name, rounds in rows.items():
                target = root / "target"
                target.mkdir()
                if name.startswith("prosector"):
                    rounds.append(prosector(binary, target, source, associations))
                else:
                    rounds.append(storescp(target, source, associations))
                shutil.rmtree(target)
        for name, rounds in rows.items():
            rates = sorted(SLICES / seconds for seconds, _, _ in rounds)
            rate = statistics.median(rates)
            cpu = statistics.median(cpu for _, cpu, _ in rounds) / (SLICES * size / 1e9)
            peak = statistics.median(peak for _, _, peak in rounds)
            print(
                f"| {name} | {associations} | {rate:.0f} ({rates[0]:.0f} to {rates[-1]:.0f}) "
                f"| {rate * size / 1e6:.0f} | {cpu:.2f} | {peak:.0f} |",
                flush=True,
            )
        medians = [statistics.median(SLICES / seconds for seconds, _, _ in rounds) for rounds in rows.values()]
        print(f"| prosector to storescp | {associations} | {medians[0] / medians[1]:.2f} | | | |", flush=True)
        shutil.rmtree(source)
    target = root / "disk"
    target.mkdir()
    rates = sorted(disk(target, size) for _ in range(repetitions))
    shutil.rmtree(target)
    print(f"| the disk, one thread | | {statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f}) | {statistics.median(rates) * size / 1e6:.0f} | | |")


main(os.path.abspath(sys.argv[1]), Path(sys.argv[2]).absolute(), int(sys.argv[3]) if len(sys.argv) > 3 else 3)
