#!/usr/bin/env python3
"""Whether transformers and llama.cpp load what `hearth convert` writes, and compute the same with it.

    pip install torch transformers safetensors numpy
    python golden/convert_peers.py HEARTH LLAMA_BIN TOKENIZER_FOLDER SCRATCH TEXT [FAMILY …]

HEARTH is the binary, LLAMA_BIN the folder with llama-perplexity, TOKENIZER_FOLDER a folder with tokenizer.json, TEXT a
file of a few thousand tokens. For each family a tiny random model of transformers is saved as a folder, converted to a
GGUF file and back to a folder. Printed are the largest difference of a logit that transformers computes on the first
and on the second folder, and the perplexity of the text by hearth and by llama.cpp on the GGUF file.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import transformers

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    # The text's own words should not be beyond a random model: embeddings of a size that logits feel.
    "initializer_range": 0.3,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 64, "initializer_range": 0.1}
CASES = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": MOE,
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, "num_hidden_layers": 7},
    "phi3": {"rope_theta": 10000.0, "sliding_window": None},
}


def logits(folder, ids):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    with torch.no_grad():
        return model(ids).logits


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def main(hearth, llama_bin, tokenizer, scratch, text, families):
    for name, own in CASES.items():
        if families and name not in families:
            continue
        # The model's name is the folder's, and llama.cpp expects Phi-3's own tokens of whatever is called phi3.
        label = name.replace("phi3", "phi")
        folder, file, back = scratch / label, scratch / f"{label}.gguf", scratch / f"{label}-back"
        for path in [folder, back]:
            shutil.rmtree(path, ignore_errors=True)
        vocabulary = transformers.AutoTokenizer.from_pretrained(tokenizer)
        config = transformers.AutoConfig.for_model(name, vocab_size=len(vocabulary), pad_token_id=None, **{**COMMON, **own})
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for key, value in model.named_parameters():
            if key.endswith("norm.weight"):
                torch.nn.init.normal_(value, 0.0 if name.startswith("gemma") else 1.0, 0.1)
        model.save_pretrained(folder)
        vocabulary.save_pretrained(folder)
        run(hearth, "convert", folder, file, "--overwrite")
        run(hearth, "convert", file, back)
        ids = vocabulary(text.read_text()[:1000], return_tensors="pt").input_ids[:, :200]
        before, after = logits(folder, ids), logits(back, ids)
        ours = json.loads(run(hearth, "eval", "perplexity", "--model", file, "--text", text, "--json").splitlines()[0])
        theirs = run(llama_bin / "llama-perplexity", "-m", file, "-f", text, "-c", 512, "-t", 2)
        theirs = re.search(r"PPL = ([0-9.]+) \+/- ([0-9.]+)", theirs)
        print(
            f"{name:12} transformers, folder and back: {(before - after).abs().max().item():.1e} of "
            f"{before.abs().max().item():.1f}; perplexity hearth {ours['perplexity']:.2f}, llama.cpp {theirs[1]} ± {theirs[2]}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]), sys.argv[6:])
