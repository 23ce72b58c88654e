#!/usr/bin/env python3
"""Losses and gradients of small decoders by PyTorch and transformers, for crates/train/tests/gradients.rs.

usage: gradients.py > golden/gradients.json      (needs: pip install torch transformers)
Weights follow a formula that both sides know; two sequences of unequal length make one batch. Of each parameter's
gradient there stand its norm, its largest value and some values spread over it.
"""
import json

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

SEQUENCES = [[3, 14, 15, 9, 26, 5, 35, 8], [31, 4, 15, 9, 2]]
SIZES = {"vocab_size": 41, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 64, "rms_norm_eps": 1e-6}
NUM_VALUES = 24


def weight(place, shape):
    """Matrices around 0, vectors around 1."""
    count = torch.Size(shape).numel()
    values = (torch.arange(count, dtype=torch.int64) * 7919 + place * 104729) % 1009
    values = values.to(torch.float64) / 1009 - 0.5
    values = 1 + 0.5 * values if len(shape) == 1 else 0.6 * values
    return values.to(torch.float32).reshape(shape)


def case(kind, tied):
    config, model = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}[kind]
    config = config(**SIZES, tie_word_embeddings=tied, attention_bias=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model = model(config).eval()
    parameters = sorted((name, p) for name, p in model.named_parameters() if not (tied and name == "lm_head.weight"))
    with torch.no_grad():
        for place, (_, p) in enumerate(parameters):
            p.copy_(weight(place, p.shape))
    losses, count = [], sum(len(ids) - 1 for ids in SEQUENCES)
    for ids in SEQUENCES:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
    loss = sum(losses) / count
    loss.backward()
    gradients = {}
    for name, p in parameters:
        flat = p.grad.flatten()
        step = max(1, len(flat) // NUM_VALUES)
        gradients[name] = {"norm": flat.double().norm().item(), "largest": flat.abs().max().item(), "step": step,
                           "values": [round(v, 9) for v in flat[::step].tolist()]}
    return {"kind": kind, "tied": tied, "loss": loss.item(), "gradients": gradients}


print(json.dumps({"sequences": SEQUENCES, "cases": [case("llama", True), case("llama", False), case("qwen3", True)]}))
