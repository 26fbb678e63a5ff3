"""Trains the phantom pack. See README.md."""

import argparse
import collections
import copy
import math
import queue
import random
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from network import SIZES, Network, TextEncoder
from prompts import ABSENT, STRUCTURES, Tokenizer, vocabulary

WINDOW = 64
VOXELS = WINDOW**3
RECORD_BYTES = 28 + 6 * VOXELS
HELD_OUT_SEED = 1_000_000_000
NAMES = list(STRUCTURES)
# How often a structure is asked for, relative to the others: small and sided ones more.
EMPHASIS = [0.2, 0.3, 0.7, 0.7, 1, 2.4, 0.6, 1.8, 1.6, 2.6, 1.2]

# Where the mask embeddings begin: every structure has a channel of its own, unions have those of their parts, and the
# channels that are left speak against everything. Values are those before the last GELU.
PARTS = [[0], [1, 2], [1], [2], [3], [4], [5, 6], [5], [6], [7], [8]]
FOR, AGAINST = 2.0, -0.5

# Text encoder and query decoder forget a structure for hundreds of steps at the rate that suits the backbone.
LANGUAGE_RATE = 0.15

Record = collections.namedtuple("Record", "modality extent offset image structures")


def parse(data):
    head = np.frombuffer(data, "<i4", 4)
    offset = np.frombuffer(data, "<f4", 3, 16)
    image = np.frombuffer(data, "<f4", VOXELS, 28).reshape(1, 1, WINDOW, WINDOW, WINDOW)
    structures = np.frombuffer(data, "<u2", VOXELS, 28 + 4 * VOXELS).reshape(WINDOW, WINDOW, WINDOW)
    return Record(int(head[0]), head[1:].tolist(), offset.tolist(), torch.from_numpy(image.copy()), structures)


class Generator:
    """The example program `phantom_volumes`, read by a thread that keeps a few records ready."""

    def __init__(self, program, first_seed, count=0):
        self.process = subprocess.Popen([program, str(first_seed), str(count)], stdout=subprocess.PIPE)
        self.ready = queue.Queue(maxsize=4)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while len(data := self.process.stdout.read(RECORD_BYTES)) == RECORD_BYTES:
            self.ready.put(parse(data))

    def next(self, wait):
        try:
            return self.ready.get(block=wait)
        except queue.Empty:
            return None


def between_voxels(probabilities, offset):
    """Linear interpolation at every voxel plus `offset`; one voxel shorter on each axis."""
    p = probabilities
    for axis, t in zip((1, 2, 3), offset):
        n = p.shape[axis] - 1
        p = torch.lerp(p.narrow(axis, 0, n), p.narrow(axis, 1, n), t)
    return p


def points(record, bits):
    """Truth `[N, h-1, w-1, d-1]` of structures `bits` (None: nowhere) at the points of `between_voxels`."""
    h, w, d = (size - 1 for size in record.extent)
    inside = record.structures[:h, :w, :d]
    planes = [np.zeros_like(inside) if bit is None else inside >> bit & 1 for bit in bits]
    return torch.from_numpy(np.stack(planes).astype(np.float32))


def masks_loss(logits, record, truth):
    h, w, d = record.extent
    p = between_voxels(logits[:, :h, :w, :d].sigmoid(), record.offset).clamp(1e-6, 1 - 1e-6)
    count = truth.sum((1, 2, 3))
    wrong = -torch.where(truth > 0.5, p, 1 - p).log().sum((1, 2, 3))
    entropy = wrong / (count + 0.01 * truth[0].numel())
    overlap = 2 * (p * truth).sum((1, 2, 3)) / (p.sum((1, 2, 3)) + count + 1)
    dice = torch.where(count > 20, 1 - overlap, torch.zeros_like(overlap))
    return (0.5 * entropy + dice).mean()


def guiding_embeddings(bits, channels):
    guides = torch.full((len(bits), channels), AGAINST)
    for row, bit in enumerate(bits):
        if bit is not None:
            guides[row, PARTS[bit]] = FOR
    return guides


class Trainer:
    def __init__(self, options):
        self.options = options
        self.tokenizer = Tokenizer(vocabulary())
        self.models = torch.nn.ModuleList([Network(), TextEncoder(len(vocabulary()))])
        if options.resume:
            self.models.load_state_dict(torch.load(options.resume)["average"])
        self.average = copy.deepcopy(self.models)
        self.optimizer = torch.optim.AdamW(self.groups(), lr=options.rate, betas=(0.9, 0.98))
        self.lock = threading.Lock()
        self.steps = 0

    def groups(self):
        """Parameters by weight decay and by share of the learning rate."""
        groups = {}
        for name, parameter in self.models.named_parameters():
            key = (0.01 if parameter.dim() > 1 else 0.0, 1.0 if "backbone" in name else LANGUAGE_RATE)
            groups.setdefault(key, []).append(parameter)
        return [{"params": group, "weight_decay": d, "share": s} for (d, s), group in groups.items()]

    def ids(self, texts):
        rows = [self.tokenizer.encode(text) for text in texts]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def draw_prompts(self, count):
        keys = sorted(range(len(NAMES)), key=lambda i: -random.random() ** (1 / EMPHASIS[i]))
        bits = keys[:count] + [None]
        texts = []
        for bit in bits:
            if bit is None:
                text = random.choice(ABSENT)
            else:
                text = NAMES[bit] if random.random() < 0.6 else random.choice(STRUCTURES[NAMES[bit]])
            texts.append("the " + text if random.random() < 0.1 else text)
        return bits, texts

    def step(self, replica, record, guided, rate):
        """One step on one record with gradients taken in `replica`, so that threads do not wait for each other."""
        with self.lock, torch.no_grad():
            for mine, live in zip(replica.parameters(), self.models.parameters()):
                mine.copy_(live)
            bits, texts = self.draw_prompts(7)
        network, text = replica
        image = record.image + random.uniform(0, 0.08) * torch.randn_like(record.image)
        h, w, d = record.extent
        image[:, :, h:] = 0
        image[:, :, :, w:] = 0
        image[..., d:] = 0
        queries = text(self.ids(texts), record.modality)
        guides = guiding_embeddings(bits, SIZES["channels"][0])
        logits, bare = network(image, queries, F.gelu(guides) if guided else None)
        loss = masks_loss(logits, record, points(record, bits))
        astray = (bare - guides).square().mean()
        total = loss + astray
        gradients = torch.autograd.grad(total, list(replica.parameters()), allow_unused=True)
        with self.lock:
            for live, gradient in zip(self.models.parameters(), gradients):
                live.grad = gradient
            norm = torch.nn.utils.clip_grad_norm_(self.models.parameters(), 3.0)
            for group in self.optimizer.param_groups:
                group["lr"] = group["share"] * rate * min(1.0, (self.steps + 1) / 100)
            if torch.isfinite(norm):
                self.optimizer.step()
            self.update_average()
            self.steps += 1
        return loss.item(), astray.item()

    @torch.no_grad()
    def update_average(self):
        keep = min(0.997, (1 + self.steps) / (10 + self.steps))
        for mean, live in zip(self.average.parameters(), self.models.parameters()):
            mean.lerp_(live, 1 - keep)

    @torch.no_grad()
    def evaluate(self, records):
        """Mean Dice by modality and structure, at the points of the stored grid."""
        network, text = self.average
        scores = np.full((len(records), len(NAMES)), np.nan)
        for i, record in enumerate(records):
            queries = text(self.ids(NAMES), record.modality)
            h, w, d = record.extent
            logits = network(record.image, queries, half=False)[0][:, :h, :w, :d]
            found = between_voxels(logits.sigmoid(), record.offset) > 0.5
            truth = points(record, range(len(NAMES))) > 0.5
            both = (found & truth).sum((1, 2, 3))
            sizes = found.sum((1, 2, 3)) + truth.sum((1, 2, 3))
            seen = truth.sum((1, 2, 3)) > 100
            dice = torch.where(seen, 2.0 * both / sizes.clamp(min=1), torch.nan)
            scores[i] = dice.numpy()
        return scores

    def report(self, records):
        scores = self.evaluate(records)
        lines = []
        for name, wanted in (("ct", 0), ("mr", 1)):
            rows = scores[[record.modality == wanted for record in records]]
            means = np.nanmean(rows, 0)
            lines.append(name + " " + " ".join(f"{n.replace(' ', '-')}={m:.3f}" for n, m in zip(NAMES, means)))
        return f"mean={np.nanmean(scores):.4f}\n" + "\n".join(lines)

    def save(self):
        path = Path(self.options.output)
        partial = path.with_suffix(".partial")
        torch.save({"average": self.average.state_dict(), "step": self.steps}, partial)
        partial.rename(path)


class Schedule:
    def __init__(self, options):
        self.options, self.began = options, time.time()

    def minute(self):
        return (time.time() - self.began) / 60

    def progress(self):
        return self.minute() / self.options.minutes

    def rate(self):
        return self.options.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress()))))

    def guided(self):
        return self.progress() < self.options.guided


def work(trainer, schedule, source, pool, losses):
    """Steps until the schedule ends; every worker is one thread of the processor."""
    torch.set_num_threads(1)
    replica = copy.deepcopy(trainer.models)
    while schedule.progress() < 1:
        fresh = source.next(wait=False) if trainer.steps % schedule.options.reuse == 0 else None
        if fresh:
            pool.append(fresh)
        record = fresh or random.choice(pool)
        losses.append(trainer.step(replica, record, schedule.guided(), schedule.rate()))


def run(options):
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    torch.set_num_threads(1)
    trainer = Trainer(options)
    held_out = Generator(options.generator, HELD_OUT_SEED, options.held_out)
    records = [held_out.next(wait=True) for _ in range(options.held_out)]
    source = Generator(options.generator, options.seed * 1_000_000)
    pool = collections.deque([source.next(wait=True) for _ in range(4)], maxlen=options.pool)
    schedule, losses = Schedule(options), []
    arguments = (trainer, schedule, source, pool, losses)
    workers = [threading.Thread(target=work, args=arguments) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    reported = 0
    while any(worker.is_alive() for worker in workers):
        time.sleep(20)
        means = np.mean(losses[-100:], 0).round(4) if losses else None
        print(f"minute {schedule.minute():.1f} steps {trainer.steps} loss {means}", flush=True)
        if trainer.steps >= reported + options.every:
            reported = trainer.steps
            print(trainer.report(records), flush=True)
            trainer.save()
    print(f"{trainer.steps} steps\n{trainer.report(records)}")
    trainer.save()
    source.process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", required=True, help="the built example phantom_volumes")
    parser.add_argument("--output", required=True, help="checkpoint to write")
    parser.add_argument("--resume", help="checkpoint to start from")
    parser.add_argument("--minutes", type=float, default=70, help="length of the schedule")
    parser.add_argument("--guided", type=float, default=0.9, help="part of the schedule with guided embeddings")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="threads that take steps")
    parser.add_argument("--pool", type=int, default=400, help="volumes kept for another use")
    parser.add_argument("--reuse", type=int, default=4, help="steps per new volume")
    parser.add_argument("--every", type=int, default=300, help="steps between evaluations")
    parser.add_argument("--held-out", type=int, default=12)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
