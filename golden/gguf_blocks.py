#!/usr/bin/env python3
"""Blocks of random bytes in every GGUF format that hearth reads, and what the `gguf` package decodes them to.

    pip install numpy gguf
    python golden/gguf_blocks.py golden/gguf_blocks.txt

A line each: format, block, weights as little-endian f32; both in hexadecimal. Scales are replaced by small finite
numbers, everything else stays random, so that every bit of a layout matters.
"""

import sys

import gguf
import numpy as np

# Where a block's f16 scales and minima lie.
SCALES = {
    "F32": [], "F16": [], "BF16": [],
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0],
}


def block(name, random):
    kind = gguf.GGMLQuantizationType[name]
    length, size = gguf.GGML_QUANT_SIZES[kind]
    if length == 1:
        values = random.normal(size=8).astype(np.float32)
        if name == "BF16":
            return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        return values.astype(np.float32 if name == "F32" else np.float16).tobytes()
    data = bytearray(random.integers(0, 256, size, dtype=np.uint8).tobytes())
    for at in SCALES[name]:
        data[at : at + 2] = np.float16(random.uniform(-0.01, 0.01)).tobytes()
    return bytes(data)


def main(path):
    random = np.random.default_rng(7)
    with open(path, "w") as out:
        out.write("# Written by golden/gguf_blocks.py.\n")
        for name in SCALES:
            kind = gguf.GGMLQuantizationType[name]
            data = block(name, random)
            weights = gguf.quants.dequantize(np.frombuffer(data, dtype=np.uint8), kind)
            out.write(f"{name} {data.hex()} {weights.astype('<f4').tobytes().hex()}\n")


main(sys.argv[1])
