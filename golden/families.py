#!/usr/bin/env python3
"""Logits of tiny models of every family, computed by transformers in f32.

    pip install torch transformers safetensors numpy
    python golden/families.py golden/families.json

Weights aren't stored: each is `offset + scale * u` with u in [-1, 1) from SplitMix64, seeded by the FNV-1a hash of its
tensor's name, so that a test makes the same ones. Folders are written as the hub has them and opened by
`from_pretrained`, so names, shapes and spellings of config.json are those that transformers reads.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 16}
GEMMA = {
    "head_dim": 16,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 20,
    "sliding_window": 20,
    "tie_word_embeddings": True,
}

# Differences to SHAPE. Spellings of transformers 4 and 5 take turns.
CASES = {
    "llama": {"model_type": "llama", "rope_theta": 500.0, "rope_scaling": LLAMA3},
    "llama-linear": {
        "model_type": "llama",
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "linear", "factor": 2.5},
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "llama-yarn": {"model_type": "llama", "rope_parameters": YARN},
    "llama-dynamic": {
        "model_type": "llama",
        "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
    },
    "mistral": {"model_type": "mistral", "head_dim": 16, "rope_theta": 10000.0, "sliding_window": 20},
    "mixtral": {
        "model_type": "mixtral",
        "rope_theta": 1e6,
        "sliding_window": None,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
    },
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False, "tie_word_embeddings": True},
    "qwen2-window": {
        "model_type": "qwen2",
        "rope_theta": 1e6,
        "use_sliding_window": True,
        "sliding_window": 70,
        "max_window_layers": 1,
    },
    "qwen3": {
        "model_type": "qwen3",
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": True,
    },
    "qwen3_moe": {"model_type": "qwen3_moe", "rope_theta": 1e6, "norm_topk_prob": True, **MOE},
    "qwen3_moe-dense": {
        "model_type": "qwen3_moe",
        "rope_theta": 1e6,
        "norm_topk_prob": True,
        "mlp_only_layers": [1],
        **MOE,
    },
    "qwen3_moe-step": {
        "model_type": "qwen3_moe",
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "norm_topk_prob": False,
        "decoder_sparse_step": 2,
        **MOE,
    },
    "gemma2": {
        "model_type": "gemma2",
        "rope_theta": 10000.0,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        **GEMMA,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 4,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 3,
        **GEMMA,
    },
    "gemma3-types": {
        "model_type": "gemma3_text",
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
        },
        "final_logit_softcapping": 4.0,
        **GEMMA,
    },
    "phi3": {
        "model_type": "phi3",
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "partial_rotary_factor": 0.5,
        "sliding_window": 20,
        "original_max_position_embeddings": 256,
    },
    # Both sequences are shorter than the original length.
    "phi3-longrope": {
        "model_type": "phi3",
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.3, 1.7, 2.0], "long_factor": [1.0, 2.0, 4.0, 8.0]},
        "original_max_position_embeddings": 128,
    },
}

# One shorter than every window, one longer than windows and than a page of keys.
LENGTHS = [7, 90]
RECORDED_ROWS = 4


def fnv(name):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def signed(name, count):
    """`count` values in [-1, 1), exact in f32."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def offset_and_scale(name, shape, model_type):
    if len(shape) == 2:
        # Variance 1 / columns; queries and keys larger, so that attention prefers some tokens.
        gain = 2 if any(part in name for part in ("q_proj", "k_proj", "qkv_proj")) else 1
        return 0.0, round(gain * (3 / shape[1]) ** 0.5, 6)
    if "norm" in name:
        return (0.0 if model_type.startswith("gemma") else 1.0), 0.25
    return 0.0, 0.25


def case(name, differences, folder):
    config = SHAPE | differences
    settings = {key: value for key, value in config.items() if key != "model_type"}
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **json.loads(json.dumps(settings))))
    plain.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "np") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    tensors, weights = [], {}
    for key, shape in sorted(shapes.items()):
        offset, scale = offset_and_scale(key, shape, config["model_type"])
        values = np.float32(offset) + np.float32(scale) * signed(key, int(np.prod(shape)))
        weights[key] = values.reshape(shape)
        tensors.append([key, shape, offset, scale])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], (name, info)
    model.eval()
    sequences = []
    for length in LENGTHS:
        ids = [(i * i * 7 + i * 3 + length) % config["vocab_size"] for i in range(length)]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        rows = sorted({0, length // 3, length - 2, length - 1})[-RECORDED_ROWS:]
        recorded = [[round(value, 5) for value in logits[row].tolist()] for row in rows]
        sequences.append({"ids": ids, "rows": rows, "logits": recorded})
    return {"name": name, "config": config, "tensors": tensors, "sequences": sequences}


def main(out_path):
    torch.manual_seed(0)
    lines = []
    for name, differences in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            lines.append("  " + json.dumps(case(name, differences, Path(folder))))
    with open(out_path, "w", encoding="utf-8") as out:
        out.write('{"cases": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
