"""End-to-end cases in the format of the golden ones, made by rule, and a checkpoint to run them with.

    sat_cases.py checkpoints GOLDEN FOLDER
    sat_cases.py make GOLDEN FOLDER
    sat_cases.py verify GOLDEN

GOLDEN holds outputs of the reference implementation. `checkpoints` writes the small network (`network.pth`) and the
small text encoder of GOLDEN (`text.pth`) in the published layout. `make` writes such checkpoints with a network that
finds more, and for every case its volume `NAME.pre.safetensors` (`raw`, `affine`) and what `sat_reference.py` makes of
it, `NAME.e2e.safetensors` (`restored_linear_prob`); it prints the cases as JSON. `verify` holds `sat_reference.py`
against whatever GOLDEN has.
"""

import io
import json
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import sat_reference as reference
from safetensors import safe_open
from safetensors.numpy import save_file

WINDOW = (64, 64, 32)
# Rows of `queries.*` in the golden text file that the prompts of the cases are.
PROMPTS = {"liver": 0, "left kidney": 1, "gallbladder": 4}
# What the series of a case claims to be, where the modality must be told.
WRITTEN_AS = {"pt_wide": "MR"}
ROW_OF_MODALITY = {"ct": "queries.ct", "mri": "queries.mri", "pet": "queries.pet"}


def tensors(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


# Checkpoints ---------------------------------------------------------------------------------------------------------


class Storage:
    """A tensor's elements as `torch.save` knows them."""

    def __init__(self, key, array):
        self.key, self.array = key, array


def stand_in(module, name):
    """A global that pickles as one of PyTorch's, which need not be installed."""
    found = sys.modules.setdefault(module, types.ModuleType(module))
    value = types.FunctionType((lambda *_: None).__code__, {}, name)
    value.__module__, value.__qualname__ = module, name
    setattr(found, name, value)
    return value


class Pickler(pickle.Pickler):
    """Writes arrays as tensors over storages of their own."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []
        self.rebuild = stand_in("torch._utils", "_rebuild_tensor_v2")
        self.storage_class = stand_in("torch", "FloatStorage")

    def reducer_override(self, value):
        if not isinstance(value, np.ndarray):
            return NotImplemented
        storage = Storage(str(len(self.storages)), np.ascontiguousarray(value, "<f4"))
        self.storages.append(storage)
        strides = [step // 4 for step in storage.array.strides]
        return self.rebuild, (storage, 0, value.shape, tuple(strides), False, OrderedDict())

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return "storage", self.storage_class, value.key, "cpu", value.array.size
        return None


def save_checkpoint(path, weights):
    """What `torch.save` would write: `module.` in front of every name, the step beside them."""
    state = OrderedDict((f"module.{name}", value) for name, value in weights.items())
    buffer = io.BytesIO()
    pickler = Pickler(buffer)
    pickler.dump({"step": 1, "model_state_dict": state})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for storage in pickler.storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")


# Volumes -------------------------------------------------------------------------------------------------------------


def turn(*degrees):
    """Rotation about the patient's axes, in turn."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result


def affine(axes, spacing, origin, rotation=None, tilt=0.0):
    """Affine to RAS of a NIfTI header. `axes` are the patient's axes of (i, j, k), as in `LPS`; `tilt` in degrees shifts
    each slice along j, as a gantry that leans."""
    rotation = np.eye(3) if rotation is None else rotation
    columns = []
    for letter in axes:
        world = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        columns.append(rotation[:, world] * (1 if letter in "RAS" else -1))
    i, j, k = columns
    steps = [i * spacing[0], j * spacing[1], (k + np.tan(np.radians(tilt)) * j) * spacing[2]]
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = np.stack(steps, 1), origin
    # A NIfTI header holds float32.
    return result.astype(np.float32).astype(np.float64)


def volume(name, shape, matrix, modality):
    """A body of soft blobs in the patient, with noise; nothing but air or zero around it."""
    seed = int(reference.generated(f"case.{name}", 1)[0] * 2**23) % 2**32
    random = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    place = index @ matrix[:3, :3].T
    place = place - place.reshape(-1, 3).mean(0)
    size = np.abs(place).reshape(-1, 3).max(0)
    radius = np.sqrt(((place / (0.72 * size)) ** 2).sum(-1))
    value = np.zeros(shape)
    for _ in range(14):
        centre, width = random.uniform(-0.6, 0.6, 3) * size, random.uniform(0.12, 0.4)
        value += random.normal() * np.exp(-(((place - centre) / (width * size)) ** 2).sum(-1))
    noise = random.normal(size=shape)
    if modality == "ct":
        stored = np.where(radius < 1, 40 + 160 * value + 12 * noise, -1000 + 4 * noise)
    else:
        stored = np.where(radius < 1, np.maximum(420 + 260 * value + 20 * noise, 1), 0)
    return np.round(stored).astype(np.int16)


def cases():
    """Name, modality, orientation code, shape, affine."""
    t = turn
    fixed = [
        ("ct_tilted", "ct", "RAS", (40, 44, 12), affine("LPS", (1.1, 1.1, 4.0), (30, 25, -310), tilt=18)),
        ("ct_tilted_back", "ct", "RAS", (44, 40, 14), affine("LPS", (0.9, 0.9, 3.5), (22, 31, 80), tilt=-25)),
        ("ct_tilted_down", "ct", "RAS", (40, 40, 13), affine("LPI", (1, 1.2, 3), (20, 24, 700), tilt=12.5)),
        ("ct_tilted_oblique", "ct", "RAS", (38, 42, 12), affine("LPS", (1.2, 1, 4), (0, 0, 0), t(0, 9, 6), -20)),
        ("ct_oblique", "ct", "RAS", (42, 38, 14), affine("LPS", (1.1, 0.9, 3.3), (25, 19, 44), t(17, -12, 8))),
        ("ct_coronal", "ct", "RAS", (42, 36, 16), affine("LIP", (1, 1, 2.5), (21.5, 40, 33))),
        ("ct_oblique_wide", "ct", "RAS", (76, 66, 26), affine("LPS", (0.95, 0.95, 4.1), (36, 30, 10), t(-9, 14, 3))),
        ("ct_as_wanted", "ct", "RAS", (48, 44, 12), affine("RAS", (1, 1, 3), (-20, -22, 5))),
        ("mr_coronal_oblique", "mri", "RAS", (40, 36, 13), affine("LIA", (1.2, 1.2, 3), (10, 70, -40), t(21, 6, -11))),
        ("mr_sagittal_oblique", "mri", "RAS", (44, 40, 12), affine("PIL", (1, 1, 3.6), (30, 35, 90), t(5, 19, -15))),
        ("mr_mirrored", "mri", "RAS", (38, 42, 14), affine("PSR", (1.3, 1.05, 2.9), (9, -33, 12), t(-8, 4, 13))),
        ("mr_spine", "mri", "ASR", (44, 48, 13), affine("PIR", (0.9, 0.9, 3.3), (-18, 20, 30), t(4, -6, 9))),
        ("mr_spine_tilted", "mri", "ASR", (40, 46, 12), affine("PIL", (1, 1, 3.3), (20, 20, 23), None, 10)),
        ("mr_half_way", "mri", "RAS", (38, 40, 16), affine("LPS", (1.1, 1.1, 2.6), (17, 0, 8), t(44, 43, 1))),
        ("pt_axial", "pet", "RAS", (30, 30, 18), affine("LPS", (2.7, 2.7, 5), (40, 41, -260))),
        ("pt_wide", "pet", "RAS", (44, 40, 26), affine("LPI", (2.6, 2.6, 4), (60, 50, 400), t(0, 0, 7))),
    ]
    # One turn at a time: the sign of the affine's rounding errors decides how the resampled grid is placed. Directions
    # that are set at right angles on the way have other errors, and in the middle four of these another grid.
    turns = [("LPS", 0, 11), ("LPS", 2, 16), ("LPS", 2, -17), ("LIA", 1, 5), ("LIA", 1, -20), ("LIA", 2, -14)]
    for number, (axes, axis, angle) in enumerate(turns):
        rotation = t(*(angle if k == axis else 0 for k in range(3)))
        matrix = affine(axes, (0.97, 1.03, 3.7), (12, 20, -8), rotation)
        fixed.append((f"turned_{number}", "mri" if axes == "LIA" else "ct", "RAS", (40, 38, 13), matrix))
    return fixed


# Commands ------------------------------------------------------------------------------------------------------------


def checkpoints(golden, folder, weights=None):
    golden, folder = Path(golden), Path(folder)
    save_checkpoint(folder / "network.pth", weights or reference.weights_of_network())
    save_checkpoint(folder / "text.pth", tensors(golden / "tiny_text_ours_weights.safetensors")[0])


def make(golden, folder):
    golden, folder = Path(golden), Path(folder)
    weights = reference.weights_of_network()
    # As it is, the network is sure of little: masks of a few voxels would show little.
    weights["mask_embed_proj.2.bias"] += np.float32(0.5)
    checkpoints(golden, folder, weights)
    queries, _ = tensors(golden / "tiny_text_ours_a.safetensors")
    network = reference.Network(weights)
    made = []
    for name, modality, code, shape, matrix in cases():
        raw = volume(name, shape, matrix, modality)
        rows = queries[ROW_OF_MODALITY[modality]][list(PROMPTS.values())]
        probability, prepared = reference.segment(network, raw, matrix, modality, code, rows, WINDOW)
        about = {"modality": modality, "orientation_code": code}
        save_file({"raw": raw, "affine": matrix}, folder / f"{name}.pre.safetensors", about)
        about["labels"] = json.dumps(list(PROMPTS))
        found = {"restored_linear_prob": probability.astype(np.float32)}
        save_file(found, folder / f"{name}.e2e.safetensors", about)
        shape = prepared["normalized"].shape
        windows = int(np.prod([len(reference.starts(n, c)) for n, c in zip(shape, WINDOW)]))
        share = (probability > 0.5).mean((1, 2, 3)).round(4).tolist()
        print(name, prepared["rule"], shape, windows, share, file=sys.stderr)
        made.append({
            "name": name, "orientation": code, "rule": prepared["rule"], "windows": windows,
            "modality": {"ct": "CT", "mri": "MR", "pet": "PT"}[modality], "written_as": WRITTEN_AS.get(name),
        })
    print(json.dumps({"window": "x".join(map(str, WINDOW)), "prompts": list(PROMPTS), "cases": made}))


def verify(golden):
    golden = Path(golden)
    network = reference.Network(reference.weights_of_network())
    for path in sorted(golden.glob("pre_*.safetensors")):
        expected, about = tensors(path)
        found = reference.prepare(expected["raw"], expected["affine"], about["modality"], about["orientation_code"])
        limits = {
            "oriented": 0, "oriented_affine": 1e-9, "spaced": 1e-4, "spaced_affine": 1e-6, "crop_start": 0,
            "crop_end": 0, "normalized": 1e-5,
        }
        worst = {name: float(np.abs(found[name] - expected[name]).max()) for name in limits}
        print(path.name, worst)
        assert all(worst[name] <= limit for name, limit in limits.items()), path.name
    for path in sorted(golden.glob("slide_*.safetensors")):
        expected, _ = tensors(path)
        queries = np.concatenate([expected["queries.0"], expected["queries.1"]])
        found = reference.slide(network, expected["image"][0], queries, WINDOW)
        worst = float(np.abs(found - expected["prob"]).max())
        print(path.name, worst)
        assert worst <= 2e-4, path.name
    for path in sorted(golden.glob("e2e_*.safetensors")):
        expected, about = tensors(path)
        volume, _ = tensors(golden / f"{about['input']}.safetensors")
        code, queries = about["orientation_code"], expected["queries"]
        found, _ = reference.segment(
            network, volume["raw"], volume["affine"], about["modality"], code, queries, (288, 288, 96)
        )
        worst = float(np.abs(found - expected["restored_linear_prob"]).max())
        print(path.name, worst)
        assert worst <= 2e-4, path.name


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"checkpoints": checkpoints, "make": make, "verify": verify}[command](*arguments)
