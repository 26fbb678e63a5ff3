"""Writes a checkpoint of `train.py` as a model pack. See README.md."""

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from network import MODALITIES, SIZES, Network, TextEncoder
from prompts import STRUCTURES, Tokenizer, vocabulary

MANIFEST = """format = 1
name = "phantom"
licence = "MIT OR Apache-2.0. Trained on synthetic phantoms alone: for demonstration and self test, never for patients."

[architecture]
input_channels = 1
channels = {channels}
encoder_units = {units}
decoder_units = {units}
token_hidden = {token_hidden}
query_width = {query_width}
query_heads = {query_heads}
query_layers = {query_layers}
query_feed_forward = {query_feed_forward}
mask_hidden = {mask_hidden}

[preprocessing]
spacing_mm = [6.0, 5.0, 6.0]
window = [64, 64, 64]
ct_clip_hu = [-250.0, 350.0]
other_clip_percentiles = [0.5, 99.5]

[text]
kind = "ours"
modalities = {modalities}

[text.encoder]
layers = {text_layers}
hidden = {text_hidden}
heads = {text_heads}
feed_forward = {text_feed_forward}
vocabulary = {vocabulary}
positions = {text_positions}
layer_norm_eps = 1e-5
max_tokens = {text_max_tokens}
relative_buckets = {text_buckets}
projection_hidden = {text_hidden}

[provenance]
created_by = "model/phantom/export.py, after {steps} steps of model/phantom/train.py"

[files]
"""


def round_to_half(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half().float())


def tensors(module):
    return {name: value.half().contiguous() for name, value in module.state_dict().items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("pack", type=Path)
    options = parser.parse_args()

    pieces = vocabulary()
    network, text = Network(), TextEncoder(len(pieces))
    checkpoint = torch.load(options.checkpoint)
    torch.nn.ModuleList([network, text]).load_state_dict(checkpoint["average"])
    with torch.no_grad():
        rows = text.modality_embed.weight
        mri = rows[MODALITIES.index("mri")].clone()
        for untrained in ("us", "pet"):
            rows[MODALITIES.index(untrained)] = mri
    round_to_half(network)
    round_to_half(text)

    options.pack.mkdir(parents=True, exist_ok=True)
    save_file(tensors(network), options.pack / "weights.safetensors")
    save_file(tensors(text), options.pack / "text.safetensors")
    (options.pack / "vocab.txt").write_text("".join(piece + "\n" for piece in pieces))
    save_prompts(text, Tokenizer(pieces), options.pack / "prompts.safetensors")
    save_probe(network, options.pack / "probe.safetensors")

    manifest = MANIFEST.format(
        **SIZES, modalities=json.dumps(MODALITIES), vocabulary=len(pieces), steps=checkpoint["step"]
    )
    for name in ("probe.safetensors", "prompts.safetensors", "text.safetensors", "vocab.txt", "weights.safetensors"):
        digest = hashlib.sha256((options.pack / name).read_bytes()).hexdigest()
        manifest += f'"{name}" = "{digest}"\n'
    (options.pack / "pack.toml").write_text(manifest)


@torch.no_grad()
def save_prompts(text, tokenizer, path):
    prompts = sorted({prompt for prompts in STRUCTURES.values() for prompt in prompts})
    rows, lists = {}, {}
    for modality in ("ct", "mri", "pet"):
        row = MODALITIES.index(modality)
        queries = [text(torch.tensor([tokenizer.encode(prompt)]), row)[0] for prompt in prompts]
        rows[modality] = torch.stack(queries)
        lists[modality] = json.dumps(prompts)
    save_file(rows, path, metadata=lists)


def generated_input(name, count):
    """Values of unit variance that follow from their name alone (docs/pack-format.md, Probe)."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    values = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return torch.from_numpy(values * np.float32(3**0.5))


@torch.no_grad()
def save_probe(network, path):
    """What PyTorch says about the probe's image: the pack's self test compares prosector's kernels with it."""
    shape, width, samples = (64, 64, 32), SIZES["query_width"], 512
    voxels = math.prod(shape)
    image = generated_input("probe.image", voxels).reshape(1, 1, *shape)
    queries = torch.stack([generated_input(f"probe.query.{i}", width) for i in range(2)])
    probabilities = network(image, queries, half=False)[0].sigmoid().flatten(1)
    places = [(2 * sample + 1) * voxels // (2 * samples) for sample in range(samples)]
    tensors = {"queries": queries, "probabilities": probabilities[:, places].contiguous()}
    save_file(tensors, path, metadata={"shape": json.dumps(shape)})


if __name__ == "__main__":
    main()
