"""The vision network of SAT in PyTorch, as its Python program calls it, for comparison with window.rs.

python window_pytorch.py [nano|pro] H W D [--targets N] [--repeat N] [--threads N]

Weights are random: they do not change the time. Prints wall and CPU seconds per window, mask product with
sigmoid included, query decoder not.
"""

import argparse
import resource
import time

import torch
from torch import nn

SIZES = {"nano": ([64, 64, 128, 256, 512, 768], 2), "pro": ([128, 128, 256, 512, 1024, 1536], 3)}


def units(inputs, outputs, count, stride=1):
    layers = []
    for unit in range(count):
        layers += [
            nn.Conv3d(inputs if unit == 0 else outputs, outputs, 3, stride if unit == 0 else 1, 1),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class Backbone(nn.Module):
    def __init__(self, channels, count):
        super().__init__()
        inputs = [3, *channels[:-1]]
        self.encoder = nn.ModuleList(
            units(a, b, count, 1 if level == 0 else 2) for level, (a, b) in enumerate(zip(inputs, channels))
        )
        pairs = list(zip(channels[:0:-1], channels[-2::-1]))
        self.upsampling = nn.ModuleList(nn.ConvTranspose3d(low, high, 2, 2) for low, high in pairs)
        self.decoder = nn.ModuleList(units(2 * high, high, count) for _, high in pairs)

    def forward(self, x):
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        pooled = [nn.functional.avg_pool3d(s, 32 >> level) for level, s in enumerate(skips[:-1])]
        tokens = torch.cat([*pooled, x], 1)
        for upsample, stage, skip in zip(self.upsampling, self.decoder, skips[-2::-1]):
            x = stage(torch.cat([upsample(x), skip], 1))
        return tokens, x


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=SIZES)
    parser.add_argument("shape", type=int, nargs=3)
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    channels, count = SIZES[options.model]
    network = Backbone(channels, count).eval()
    image = torch.randn(1, 1, *options.shape).repeat(1, 3, 1, 1, 1)
    embeddings = torch.randn(1, options.targets, channels[0])
    with torch.inference_mode():
        for _ in range(options.repeat):
            wall, cpu = time.perf_counter(), time.process_time()
            _, features = network(image)
            torch.sigmoid(torch.einsum("bchwd,bnc->bnhwd", features, embeddings))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"torch {torch.__version__}: window {wall:.2f} s, {cpu:.2f} CPU s", flush=True)
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 * 1.024:.2f} GB")


main()
