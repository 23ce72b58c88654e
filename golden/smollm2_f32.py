#!/usr/bin/env python3
"""Reference log-probabilities of SmolLM2-135M-Instruct, computed in f32 by NumPy.

    pip install numpy gguf
    python golden/smollm2_f32.py SmolLM2-135M-Instruct.Q4_1.gguf golden/smollm2_f32.json

Shares no code with hearth: the file is read and decoded by the `gguf` package, text is split and merged by the few
lines below, and the forward pass is written out as the papers have it (RMSNorm, rotary embedding over neighbouring
channels as GGUF's llama family stores them, grouped-query attention, SwiGLU). Every product is plain f32.
"""

import hashlib
import json
import re
import sys

import gguf
import numpy as np

PROMPTS = {
    "english": "The kiln needs nine hours to reach 1240 degrees, and it must cool overnight before the door",
    "chinese": "锅炉启动之前，请先检查水压和阀门。水压不足时，",
    "code": "def mean(values):\n    total = 0\n    for value in values:\n        total +=",
}
TOP = 5

# GPT-2's pattern, after the digits have been split off one by one. Letters and digits as `re` knows them.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def byte_alphabet():
    """The character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


class Bpe:
    def __init__(self, tokens, merges):
        self.ids = {token: index for index, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self.alphabet = byte_alphabet()

    def encode(self, text):
        ids = []
        for part in re.split(r"(\d)", text):
            for piece in PIECES.findall(part):
                ids += self.merge([self.alphabet[byte] for byte in piece.encode()])
        return ids

    def merge(self, parts):
        while len(parts) > 1:
            ranked = [(self.ranks.get(pair, 1 << 30), at) for at, pair in enumerate(zip(parts, parts[1:]))]
            rank, at = min(ranked)
            if rank == 1 << 30:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self.ids[part] for part in parts]


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.num_layers = self.meta("llama.block_count")
        self.num_heads = self.meta("llama.attention.head_count")
        self.num_kv_heads = self.meta("llama.attention.head_count_kv")
        self.eps = np.float32(self.meta("llama.attention.layer_norm_rms_epsilon"))
        self.theta = self.meta("llama.rope.freq_base")
        self.embedding = self.weight("token_embd.weight")
        self.head = self.weight("output.weight") if "output.weight" in self.tensors else self.embedding

    def meta(self, key):
        return self.fields[key].contents()

    def weight(self, name):
        tensor = self.tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    def norm(self, x, name):
        mean_square = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean_square + self.eps) * self.weight(name)

    def rotate(self, x):
        """x [T, H, D]: channels 2i and 2i + 1 turn by position / theta^(2i / D)."""
        num_tokens, _, head_dim = x.shape
        frequency = self.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        angle = np.arange(num_tokens)[:, None, None] * frequency
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def attention(self, x, layer):
        num_tokens, hidden = x.shape
        head_dim = hidden // self.num_heads
        heads = lambda part, count: (x @ self.weight(f"blk.{layer}.{part}.weight").T).reshape(num_tokens, count, head_dim)
        q = self.rotate(heads("attn_q", self.num_heads))
        k = self.rotate(heads("attn_k", self.num_kv_heads))
        v = heads("attn_v", self.num_kv_heads)
        group = self.num_heads // self.num_kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(np.float32(head_dim))
        scores = np.where(np.tri(num_tokens, dtype=bool), scores, np.float32(-np.inf))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = np.einsum("hqk,khd->qhd", weights, v).reshape(num_tokens, hidden)
        return out @ self.weight(f"blk.{layer}.attn_output.weight").T

    def mlp(self, x, layer):
        gate = x @ self.weight(f"blk.{layer}.ffn_gate.weight").T
        up = x @ self.weight(f"blk.{layer}.ffn_up.weight").T
        return (gate / (1 + np.exp(-gate)) * up) @ self.weight(f"blk.{layer}.ffn_down.weight").T

    def log_probs(self, ids):
        x = self.embedding[ids]
        for layer in range(self.num_layers):
            x = x + self.attention(self.norm(x, f"blk.{layer}.attn_norm.weight"), layer)
            x = x + self.mlp(self.norm(x, f"blk.{layer}.ffn_norm.weight"), layer)
        logits = (self.norm(x, "output_norm.weight") @ self.head.T).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def top(row):
    best = np.argsort(-row, kind="stable")[:TOP]
    return [[int(index), round(float(row[index]), 5)] for index in best]


def main(model_path, out_path):
    model = Model(model_path)
    bpe = Bpe(model.meta("tokenizer.ggml.tokens"), model.meta("tokenizer.ggml.merges"))
    prompts = []
    for name, text in PROMPTS.items():
        ids = bpe.encode(text)
        rows = [top(row) for row in model.log_probs(ids)]
        prompts.append({"name": name, "text": text, "ids": ids, "top5": rows})
    sha256 = hashlib.sha256(open(model_path, "rb").read()).hexdigest()
    lines = ",\n".join("  " + json.dumps(prompt, ensure_ascii=False) for prompt in prompts)
    with open(out_path, "w", encoding="utf-8") as out:
        out.write(f'{{"model": "smollm2-135m", "sha256": "{sha256}", "prompts": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
