"""SAT's inference once more, in numpy alone: what the program is held against where no vectors of the reference reach.

Written from the published description of the network and of its data set class, not from the program. `sat_cases.py
verify` holds it against outputs of the reference implementation; nothing here is fast. Arrays of the network are
`[channel, h, w, d]`, affines go from array indices to RAS millimetres.
"""

import itertools
import math

import numpy as np

SPACING_MM = np.array([1.0, 1.0, 3.0])
AXES_OF_CODE = {"RAS": [0, 1, 2], "ASR": [1, 2, 0]}
CHANNELS = (4, 4, 8, 16, 32, 48)
WIDTH, HEADS, LAYERS, HIDDEN, MASK_HIDDEN = 48, 8, 6, 96, 16


# Weights by rule -----------------------------------------------------------------------------------------------------


def generated(name, count):
    """Values in [-1, 1): FNV-1a 64 of the name seeds SplitMix64, the top 24 bits of each output count."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)


def generated_tensor(name, shape):
    """A weight of the given name, scaled so that activations keep their order of magnitude."""
    offset, scale = 0.0, None
    if name.endswith("bias"):
        is_last_of_mask_head = name.endswith("mask_embed_proj.2.bias")
        offset, scale = (-0.5, 0.5) if is_last_of_mask_head else (0.0, 0.1)
    elif len(shape) == 1:
        offset, scale = 1.0, 0.1
    elif len(shape) == 5:
        scale = math.sqrt(6 / (shape[0] if "transpconvs" in name else shape[1] * 27))
    else:
        scale = math.sqrt(3 / shape[1])
    values = generated(name, math.prod(shape)) * np.float32(scale)
    return (np.float32(offset) + values if offset else values).reshape(shape)


def shapes_of_network():
    """Canonical names and shapes of the small network, in the order of a forward pass."""
    shapes = {}

    def unit(name, into, out):
        shapes[f"{name}.conv.weight"] = (out, into, 3, 3, 3)
        for part in ("conv.bias", "norm.weight", "norm.bias"):
            shapes[f"{name}.{part}"] = (out,)

    def linear(name, into, out):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    for stage, out in enumerate(CHANNELS):
        into = CHANNELS[stage - 1] if stage else 3
        unit(f"backbone.encoder.stages.{stage}.0.convs.0", into, out)
        unit(f"backbone.encoder.stages.{stage}.0.convs.1", out, out)
    for step in range(5):
        into, out = CHANNELS[5 - step], CHANNELS[4 - step]
        shapes[f"backbone.decoder.transpconvs.{step}.weight"] = (into, out, 2, 2, 2)
        shapes[f"backbone.decoder.transpconvs.{step}.bias"] = (out,)
        unit(f"backbone.decoder.stages.{step}.convs.0", 2 * out, out)
        unit(f"backbone.decoder.stages.{step}.convs.1", out, out)
    linear("projection_layer.0", sum(CHANNELS), WIDTH)
    linear("projection_layer.2", WIDTH, WIDTH)
    for layer in range(LAYERS):
        name = f"transformer_decoder.layers.{layer}"
        shapes[f"{name}.multihead_attn.in_proj_weight"] = (3 * WIDTH, WIDTH)
        shapes[f"{name}.multihead_attn.in_proj_bias"] = (3 * WIDTH,)
        linear(f"{name}.multihead_attn.out_proj", WIDTH, WIDTH)
        linear(f"{name}.linear1", WIDTH, HIDDEN)
        linear(f"{name}.linear2", HIDDEN, WIDTH)
        for norm in ("norm1", "norm2", "norm3"):
            shapes[f"{name}.{norm}.weight"] = shapes[f"{name}.{norm}.bias"] = (WIDTH,)
    shapes["transformer_decoder.norm.weight"] = shapes["transformer_decoder.norm.bias"] = (WIDTH,)
    linear("mask_embed_proj.0", WIDTH, MASK_HIDDEN)
    linear("mask_embed_proj.2", MASK_HIDDEN, CHANNELS[0])
    return shapes


def weights_of_network():
    return {name: generated_tensor(f"tiny_nano.{name}", shape) for name, shape in shapes_of_network().items()}


# Network -------------------------------------------------------------------------------------------------------------


class Network:
    """The small network on one window."""

    def __init__(self, weights):
        self.weights = weights

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def unit(self, name, x, stride=1):
        kernel = self.weights[f"{name}.conv.weight"]
        extents = [(n - 1) // stride + 1 for n in x.shape[1:]]
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (1, 1)])
        out = np.zeros((kernel.shape[0], math.prod(extents)), np.float32)
        for tap in np.ndindex(3, 3, 3):
            slices = tuple(slice(t, t + (n - 1) * stride + 1, stride) for t, n in zip(tap, extents))
            out += kernel[(..., *tap)] @ padded[(slice(None), *slices)].reshape(len(x), -1)
        out += self.weights[f"{name}.conv.bias"][:, None]
        mean = out.mean(1, keepdims=True, dtype=np.float64)
        variance = out.var(1, keepdims=True, dtype=np.float64)
        out = ((out - mean) / np.sqrt(variance + 1e-5)).astype(np.float32)
        out = out * self.weights[f"{name}.norm.weight"][:, None] + self.weights[f"{name}.norm.bias"][:, None]
        return np.where(out > 0, out, np.float32(0.01) * out).reshape(-1, *extents)

    def up(self, name, x):
        kernel = self.weights[f"{name}.weight"]
        out = np.empty((kernel.shape[1], *(2 * n for n in x.shape[1:])), np.float32)
        for tap in np.ndindex(2, 2, 2):
            part = kernel[(..., *tap)].T @ x.reshape(len(x), -1)
            out[(slice(None), *(slice(t, None, 2) for t in tap))] = part.reshape(-1, *x.shape[1:])
        return out + self.weights[f"{name}.bias"][:, None, None, None]

    def features(self, image):
        """Embedding of every voxel, and the tokens of the window."""
        x, levels = np.repeat(image[None], 3, 0).astype(np.float32), []
        for stage in range(6):
            name = f"backbone.encoder.stages.{stage}.0.convs"
            x = self.unit(f"{name}.1", self.unit(f"{name}.0", x, 1 if stage == 0 else 2))
            levels.append(x)
        for step in range(5):
            x = np.concatenate([self.up(f"backbone.decoder.transpconvs.{step}", x), levels[4 - step]])
            x = self.unit(f"backbone.decoder.stages.{step}.convs.0", x)
            x = self.unit(f"backbone.decoder.stages.{step}.convs.1", x)
        grid = levels[5].shape[1:]
        pooled = []
        for level in levels:
            k = level.shape[1] // grid[0]
            cells = level.reshape(len(level), grid[0], k, grid[1], k, grid[2], k)
            pooled.append(cells.mean((2, 4, 6), dtype=np.float64).astype(np.float32))
        tokens = np.concatenate(pooled).reshape(sum(CHANNELS), -1).T
        tokens = gelu(self.linear("projection_layer.2", gelu(self.linear("projection_layer.0", tokens))))
        return x, tokens, positions(grid)

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def probabilities(self, image, queries):
        """Probability of every query at every voxel of a window, `[query, h, w, d]`."""
        voxels, tokens, place = self.features(image)
        y = queries.astype(np.float32)
        for layer in range(LAYERS):
            name = f"transformer_decoder.layers.{layer}"
            y = y + self.attention(f"{name}.multihead_attn", self.norm(f"{name}.norm2", y), tokens + place, tokens)
            hidden = np.maximum(self.linear(f"{name}.linear1", self.norm(f"{name}.norm3", y)), 0)
            y = y + self.linear(f"{name}.linear2", hidden)
        y = self.norm("transformer_decoder.norm", y)
        y = gelu(self.linear("mask_embed_proj.2", gelu(self.linear("mask_embed_proj.0", y))))
        logits = y.astype(np.float32) @ voxels.reshape(len(voxels), -1)
        return (1 / (1 + np.exp(-logits))).reshape(-1, *voxels.shape[1:])

    def attention(self, name, query, key, value):
        kernels = np.split(self.weights[f"{name}.in_proj_weight"], 3)
        biases = np.split(self.weights[f"{name}.in_proj_bias"], 3)
        heads = []
        for x, kernel, bias in zip((query, key, value), kernels, biases):
            heads.append((x @ kernel.T + bias).reshape(len(x), HEADS, -1).swapaxes(0, 1))
        q, k, v = heads
        scores = q @ k.swapaxes(1, 2) / math.sqrt(WIDTH // HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = scores / scores.sum(-1, keepdims=True) @ v
        return self.linear(f"{name}.out_proj", mixed.swapaxes(0, 1).reshape(len(query), -1))


def gelu(x):
    return (x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(np.float32)


def positions(grid):
    per_axis = 2 * math.ceil(WIDTH / 6)
    frequencies = 1 / 10000 ** (np.arange(0, per_axis, 2) / per_axis)
    codes = []
    for n in grid:
        angles = np.arange(n)[:, None] * frequencies
        codes.append(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(n, -1))
    table = np.zeros((*grid, 3 * per_axis))
    for axis, code in enumerate(codes):
        shape = [1, 1, 1, per_axis]
        shape[axis] = grid[axis]
        table[..., axis * per_axis : (axis + 1) * per_axis] = code.reshape(shape)
    return table[..., :WIDTH].reshape(-1, WIDTH).astype(np.float32)


# Sliding window ------------------------------------------------------------------------------------------------------


def importance(window):
    axes = [np.exp(-((np.arange(c) - c // 2) ** 2) / (2 * (c / 8) ** 2)) for c in window]
    weights = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    weights = (weights / weights.max() * 10).astype(np.float16)
    weights[weights == 0] = weights[weights > 0].min()
    return weights.astype(np.float32)


def starts(extent, window):
    if extent < window:
        return [0]
    count = max(math.ceil(extent / (window // 2)) - 1, 1)
    return [min(i * (window // 2), extent - window) for i in range(count)]


def slide(network, image, queries, window):
    """Averaged probabilities `[query, h, w, d]` of a normalised volume."""
    weights = importance(window)
    total = np.zeros((len(queries), *image.shape), np.float32)
    norm = np.zeros(image.shape, np.float32)
    for start in itertools.product(*map(starts, image.shape, window)):
        ends = [min(s + c, n) for s, c, n in zip(start, window, image.shape)]
        place = tuple(map(slice, start, ends))
        real = tuple(slice(0, e - s) for s, e in zip(start, ends))
        piece = np.zeros(window, np.float32)
        piece[real] = image[place]
        found = network.probabilities(piece, queries)
        total[(slice(None), *place)] += found[(slice(None), *real)] * weights[real]
        norm[place] += weights[real]
    return total / norm


# Preparation and the way back ----------------------------------------------------------------------------------------


def orient(raw, affine, code):
    """Array and affine along the axes of the code, and the map from stored to oriented indices."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(unit)
    rotation, taken = u @ vt, {}
    for axis in range(3):
        free = [world for world in range(3) if world not in taken]
        taken[max(free, key=lambda world: abs(rotation[world, axis]))] = axis
    order = [taken[world] for world in AXES_OF_CODE[code]]
    array, result, forth = raw.transpose(order), affine[:, [*order, 3]].copy(), np.zeros((4, 4))
    forth[3, 3] = 1
    for axis, (source, world) in enumerate(zip(order, AXES_OF_CODE[code])):
        forth[axis, source] = 1
        if rotation[world, source] < 0:
            n = array.shape[axis]
            array = np.flip(array, axis)
            result[:3, 3] += result[:3, axis] * (n - 1)
            result[:3, axis] *= -1
            forth[axis, source], forth[axis, 3] = -1, n - 1
    return array.astype(np.float32), result.astype(np.float32).astype(np.float64), forth


def plan_spacing(shape, affine, spacing=SPACING_MM):
    """Shape and affine of the resampled volume; which rule placed it."""
    linear = affine[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    target = np.where(np.abs(lengths - spacing) <= 1e-3, lengths, spacing)
    upper = np.linalg.cholesky(linear.T @ linear).T
    new = linear @ np.linalg.inv(upper) @ np.diag(target)
    corners = np.array(list(itertools.product(*((0, n - 1) for n in shape))), float)
    world = corners @ linear.T + affine[:3, 3]
    q = world @ np.linalg.inv(new).T
    size = np.round(q.max(0) - q.min(0) + 1).astype(int)
    is_first = (np.abs(q.min(0) - q) <= 1e-8).all(1)
    if is_first.any():
        rule, offset = "corner", world[is_first.argmax()]
    else:
        centre = linear @ (np.array(shape) / 2) + affine[:3, 3]
        rule, offset = "centre", centre - new @ (size / 2)
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = new, offset
    return size, result, rule


def resample(array, affine, spacing=SPACING_MM):
    """Resampled array, its affine, the map from its indices to those of `array`, and the rule that placed it."""
    size, new, rule = plan_spacing(array.shape, affine, spacing)
    back = np.linalg.solve(affine, new)

    def is_near(a, b):
        return (np.abs(a - b) <= 1e-3 + 1e-5 * np.abs(b)).all()

    if tuple(size) == array.shape and (is_near(affine, new) or is_near(back, np.eye(4))):
        return array, affine, np.eye(4), "unchanged"
    # By way of normalised coordinates, whose rounding decides beside zeros what counts as foreground.
    old_shape = np.array(array.shape, float)
    to_norm, from_norm = np.eye(4), np.eye(4)
    to_norm[range(3), range(3)], to_norm[:3, 3] = 2 / old_shape, 1 / old_shape - 1
    from_norm[range(3), range(3)], from_norm[:3, 3] = size / 2, (size - 1) / 2
    theta = to_norm @ back @ from_norm
    lines = []
    for m in size:
        i = np.arange(m)
        step = 2 / (m - 1) if m > 1 else 0
        line = np.where(i < m // 2, -1 + i * step, 1 - (m - 1 - i) * step)
        lines.append(line * (m - 1) / m)
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
    source = grid @ theta[:3, :3].T + theta[:3, 3]
    source = ((source + 1) * old_shape - 1) / 2
    return trilinear(array, np.clip(source, 0, old_shape - 1)).astype(np.float32), new, back, rule


def trilinear(array, place):
    """Values at fractional indices inside the array, in float64."""
    low = np.floor(place).astype(int)
    fraction = place - low
    value = np.zeros(place.shape[:-1])
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, fraction, 1 - fraction), -1)
        index = np.minimum(low + corner, np.array(array.shape) - 1)
        value += weight * array[tuple(np.moveaxis(index, -1, 0))]
    return value


def normalise(values, modality):
    if modality.lower() == "ct":
        low, high = -500.0, 1000.0
    else:
        low, high = np.percentile(values.astype(np.float64), [0.5, 99.5])
    values = np.clip(values.astype(np.float64), low, high)
    return ((values - values.mean()) / values.std()).astype(np.float32), (low, high, values.mean(), values.std())


def prepare(raw, affine, modality, code, spacing=SPACING_MM):
    """Every step of the preparation, by name."""
    oriented, oriented_affine, forth = orient(raw, affine, code)
    spaced, spaced_affine, back, rule = resample(oriented, oriented_affine, spacing)
    inside = np.argwhere(spaced > 0)
    start, end = inside.min(0), inside.max(0) + 1
    cropped = spaced[tuple(map(slice, start, end))]
    normalised, statistics = normalise(cropped, modality)
    return {
        "oriented": oriented, "oriented_affine": oriented_affine, "spaced": spaced, "spaced_affine": spaced_affine,
        "crop_start": start, "crop_end": end, "clip_mean_std": statistics, "normalized": normalised,
        "to_oriented": forth, "to_spaced": np.linalg.inv(back), "rule": rule,
    }


def restore(probability, prepared, shape):
    """Probability on the stored grid, `[query, i, j, k]`: trilinear, going on for half a voxel beyond the box."""
    chain = prepared["to_spaced"] @ prepared["to_oriented"]
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    place = index @ chain[:3, :3].T + chain[:3, 3] - prepared["crop_start"]
    size = np.array(probability.shape[1:])
    inside = ((place >= -0.5) & (place < size - 0.5)).all(-1)
    place = np.clip(place, 0, size - 1)
    return np.stack([np.where(inside, trilinear(one, place), 0) for one in probability])


def segment(network, raw, affine, modality, code, queries, window):
    """Probability of every query on the stored grid, and the steps of the preparation."""
    prepared = prepare(raw, affine, modality, code)
    probability = slide(network, prepared["normalized"], queries, window)
    return restore(probability, prepared, raw.shape), prepared
