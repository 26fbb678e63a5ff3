"""SAT's network and its text encoder in PyTorch, sized by `SIZES`, with the tensor names that a model pack uses."""

import math

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {
    "channels": [16, 24, 32, 48, 64, 96],
    "units": 2,
    "token_hidden": 96,
    "query_width": 96,
    "query_heads": 8,
    "query_layers": 6,
    "query_feed_forward": 192,
    "mask_hidden": 64,
    "text_layers": 2,
    "text_hidden": 64,
    "text_heads": 4,
    "text_feed_forward": 128,
    "text_positions": 66,
    "text_max_tokens": 64,
    "text_buckets": 32,
}
# Most voxels belong to nothing, so at first everything that could speak for a structure is pushed down: embeddings to
# the minimum of the last GELU, where it has no slope, features to the flat side of the last LeakyReLU. They would stay
# there; the gradients, not the values, of these two get a slope on top.
GELU_LEAK = 0.1
RELU_LEAK = 0.3
MODALITIES = ["ct", "mri", "us", "pet"]


class ChannelNorm(nn.Module):
    """Instance norm; written as a group norm, which PyTorch computes faster on the CPU."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.group_norm(x, self.weight.numel(), self.weight, self.bias, 1e-5)


class Unit(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = ChannelNorm(outputs)
        self.is_last = False
        nn.init.kaiming_normal_(self.conv.weight, a=0.01)

    def forward(self, x):
        normed = self.norm(self.conv(x))
        if not self.is_last:
            return F.leaky_relu(normed, 0.01, inplace=True)
        flat = normed.clamp(max=0)
        return F.leaky_relu(normed, 0.01) + RELU_LEAK * (flat - flat.detach())


class Stage(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        units = [Unit(inputs, outputs, stride)]
        units += [Unit(outputs, outputs, 1) for _ in range(SIZES["units"] - 1)]
        self.convs = nn.ModuleList(units)

    def forward(self, x):
        for unit in self.convs:
            x = unit(x)
        return x


class Encoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        inputs = [1, *channels]
        self.stages = nn.ModuleList(
            nn.Sequential(Stage(inputs[k], inputs[k + 1], 1 if k == 0 else 2)) for k in range(len(channels))
        )

    def forward(self, x):
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class Decoder(nn.Module):
    def __init__(self, channels):
        super().__init__()
        pairs = list(zip(channels[::-1], channels[-2::-1]))
        self.transpconvs = nn.ModuleList(nn.ConvTranspose3d(deep, fine, 2, 2) for deep, fine in pairs)
        self.stages = nn.ModuleList(Stage(2 * fine, fine) for _, fine in pairs)

    def forward(self, levels):
        x = levels[-1]
        for up, stage, skip in zip(self.transpconvs, self.stages, levels[-2::-1]):
            x = stage(torch.cat([up(x), skip], 1))
        return x


class Backbone(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.encoder = Encoder(channels)
        self.decoder = Decoder(channels)


class QueryLayer(nn.Module):
    def __init__(self, width, heads, feed_forward):
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, queries, tokens, positions):
        normed = self.norm2(queries)
        attended, _ = self.multihead_attn(normed, tokens + positions, tokens, need_weights=False)
        queries = queries + attended
        return queries + self.linear2(F.relu(self.linear1(self.norm3(queries))))


class QueryDecoder(nn.Module):
    def __init__(self, width, heads, feed_forward, layers):
        super().__init__()
        self.layers = nn.ModuleList(QueryLayer(width, heads, feed_forward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, queries, tokens, positions):
        for layer in self.layers:
            queries = layer(queries, tokens, positions)
        return self.norm(queries)


def position_table(shape, width):
    """Sine and cosine codes of the three token axes, interleaved, side by side; `[tokens, width]`."""
    part = 2 * math.ceil(width / 6)
    frequencies = 1.0 / 10000 ** (torch.arange(0, part, 2).float() / part)
    codes = []
    for axis, length in enumerate(shape):
        angles = torch.arange(length).float()[:, None] * frequencies
        code = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        view = [1, 1, 1, part]
        view[axis] = length
        codes.append(code.view(view).expand(*shape, part))
    return torch.cat(codes, -1)[..., :width].reshape(-1, width)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        channels, width = SIZES["channels"], SIZES["query_width"]
        self.backbone = Backbone(channels)
        last = self.backbone.decoder.stages[-1].convs[-1]
        last.is_last = True
        nn.init.constant_(last.norm.weight, 8.0)
        self.projection_layer = nn.Sequential(
            nn.Linear(sum(channels), SIZES["token_hidden"]), nn.GELU(), nn.Linear(SIZES["token_hidden"], width), nn.GELU()
        )
        self.transformer_decoder = QueryDecoder(
            width, SIZES["query_heads"], SIZES["query_feed_forward"], SIZES["query_layers"]
        )
        self.mask_embed_proj = nn.Sequential(
            nn.Linear(width, SIZES["mask_hidden"]), nn.GELU(), nn.Linear(SIZES["mask_hidden"], channels[0]), nn.GELU()
        )

    def forward(self, image, queries, guides=None, half=True):
        """Logits `[N, H, W, D]` of one `image` `[1, 1, H, W, D]` for `queries` `[N, width]`, and mask embeddings before
        their last GELU. With `guides` `[N, C0]`, the logits are those of the guides, and the two halves of the network
        do not see each other.
        """
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            levels = self.backbone.encoder(image)
            features = self.backbone.decoder(levels)
        edge = 2 ** (len(levels) - 1)
        pooled = [F.avg_pool3d(x.float(), edge >> k) if edge >> k > 1 else x.float() for k, x in enumerate(levels)]
        grid = torch.cat(pooled, 1)
        if guides is not None:
            grid = grid.detach()
        tokens = self.projection_layer(grid.flatten(2).permute(2, 0, 1))
        positions = position_table(grid.shape[2:], SIZES["query_width"])[:, None]
        decoded = self.transformer_decoder(queries[:, None], tokens, positions)[:, 0]
        bare = self.mask_embed_proj[:3](decoded)
        embeddings = F.gelu(bare) + GELU_LEAK * (bare - bare.detach()) if guides is None else guides
        return torch.einsum("nc,chwd->nhwd", embeddings, features[0].float()), bare


class TextAttention(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.attn = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in "qkvo"})
        self.LayerNorm = nn.LayerNorm(hidden)


class TextLayer(nn.Module):
    def __init__(self, hidden, heads, feed_forward):
        super().__init__()
        self.heads = heads
        self.attention = TextAttention(hidden)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, feed_forward)})
        self.output = nn.ModuleDict({"dense": nn.Linear(feed_forward, hidden), "LayerNorm": nn.LayerNorm(hidden)})

    def forward(self, x, bias):
        batch, length, hidden = x.shape
        split = lambda name: self.attention.attn[name](x).view(batch, length, self.heads, -1).transpose(1, 2)
        scores = split("q") @ split("k").transpose(2, 3) / math.sqrt(hidden // self.heads) + bias
        mixed = (scores.softmax(-1) @ split("v")).transpose(1, 2).reshape(batch, length, hidden)
        x = self.attention.LayerNorm(self.attention.attn["o"](mixed) + x)
        return self.output["LayerNorm"](self.output["dense"](F.gelu(self.intermediate["dense"](x))) + x)


class TextTower(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        hidden, heads = SIZES["text_hidden"], SIZES["text_heads"]
        self.embeddings = nn.ModuleDict({
            "word_embeddings": nn.Embedding(vocabulary, hidden),
            "position_embeddings": nn.Embedding(SIZES["text_positions"], hidden),
            "LayerNorm": nn.LayerNorm(hidden),
        })
        self.encoder = nn.ModuleDict({
            "layer": nn.ModuleList(
                TextLayer(hidden, heads, SIZES["text_feed_forward"]) for _ in range(SIZES["text_layers"])
            ),
            "relative_attention_bias": nn.Embedding(SIZES["text_buckets"], heads),
        })
        nn.init.normal_(self.embeddings["word_embeddings"].weight, std=0.5)
        nn.init.normal_(self.embeddings["position_embeddings"].weight, std=0.1)
        nn.init.normal_(self.encoder["relative_attention_bias"].weight, std=0.1)

    def forward(self, ids):
        length = ids.shape[1]
        mask = ids > 0
        x = self.embeddings["word_embeddings"](ids) + self.embeddings["position_embeddings"](torch.arange(length) + 2)
        x = self.embeddings["LayerNorm"](x)
        places = torch.arange(length)
        buckets = relative_bucket(places[None] - places[:, None])
        bias = self.encoder["relative_attention_bias"](buckets).permute(2, 0, 1)[None]
        bias = bias.masked_fill(~mask[:, None, None], -1e9)
        for layer in self.encoder["layer"]:
            x = layer(x, bias)
        weights = mask.float()[..., None]
        return (x * weights).sum(1) / weights.sum(1)


def relative_bucket(relative):
    """Bucket of key minus query: exact below 8, then logarithmic up to 128, both directions apart."""
    backwards = -relative
    base = torch.where(backwards < 0, 16, 0)
    distance = backwards.abs()
    far = 8 + (torch.log(distance.clamp(min=1).float() / 8) / math.log(16) * 8).long()
    return base + torch.where(distance < 8, distance, far.clamp(max=15))


class TextEncoder(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        hidden, width = SIZES["text_hidden"], SIZES["query_width"]
        self.text_tower = nn.ModuleDict({"biolord": TextTower(vocabulary)})
        self.projection_layer = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.modality_embed = nn.Embedding(len(MODALITIES), width)
        nn.init.normal_(self.modality_embed.weight, std=0.2)

    def forward(self, ids, modality):
        """Queries `[N, width]` of token ids `[N, length]`, padded with 0, for one row of the modality table."""
        return self.projection_layer(self.text_tower["biolord"](ids)) + self.modality_embed.weight[modality]
