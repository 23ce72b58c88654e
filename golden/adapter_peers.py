#!/usr/bin/env python3
"""Whether PEFT, transformers and llama.cpp compute the same with what `hearth train sft` and `hearth merge` write.

    pip install torch transformers peft safetensors
    python golden/adapter_peers.py HEARTH LLAMA_BIN BASE DATA SCRATCH

HEARTH is the binary, LLAMA_BIN the folder with llama-completion or llama-cli, BASE a Hugging Face folder of a real model,
DATA a file of conversations. For each kind of adapter a short run is trained and opened by PEFT. Printed are the largest
difference of hearth's log-probabilities of a greedy answer to PEFT's, to those of transformers on the merged folder, and
whether PEFT, transformers and llama.cpp (on the merged GGUF file) choose the same tokens.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

KINDS = {"lora": [], "rslora": ["--set", "rslora=true"], "dora": ["--set", "dora=true"]}
PROMPT = "The potter opened the kiln and"
TOKENS = 24


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    return done.stdout


def greedy(model, ids):
    """The tokens that a model of PyTorch chooses, and their log-probabilities."""
    model.eval()
    chosen, logprobs = [], []
    with torch.no_grad():
        for _ in range(TOKENS):
            last = model(torch.tensor([ids + chosen])).logits[0, -1].log_softmax(-1)
            chosen.append(int(last.argmax()))
            logprobs.append(last.max().item())
    return chosen, logprobs


def main(hearth, llama_bin, base, data, scratch):
    os.environ["HEARTH_HOME"] = str(scratch / "home")
    open_folder = lambda folder: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(base)
    program = next(path for name in ["llama-completion", "llama-cli"] if (path := llama_bin / name).exists())
    for kind, more in KINDS.items():
        folder, file = scratch / kind, scratch / f"{kind}.gguf"
        for path in [folder, scratch / "home" / "runs" / kind]:
            shutil.rmtree(path, ignore_errors=True)
        settings = ["--steps", 4, "--lr", 0.005, "--set", "batch_tokens=512", "--set", "validation_share=0.02"]
        run(hearth, "train", "sft", "--model", base, "--data", data, "-o", kind, *settings, *more)
        generate = ["generate", "--prompt", PROMPT, "--raw", "--temperature", 0, "--max-tokens", TOKENS, "--kv-type", "f32", "--json"]
        ours = json.loads(run(hearth, *generate, "--model", base, "--adapter", kind))
        run(hearth, "merge", base, kind, "-o", folder)
        run(hearth, "merge", base, kind, "-o", file, "--overwrite")
        plain = json.loads(run(hearth, *generate, "--model", base))
        ids = ours["prompt_ids"]
        peft, of_peft = greedy(PeftModel.from_pretrained(open_folder(base), scratch / "home" / "runs" / kind / "adapter"), ids)
        merged, of_merged = greedy(open_folder(folder), ids)
        text = run(program, "-m", file, "-p", PROMPT, "-n", TOKENS, "--temp", 0, "-t", 2, "-no-cnv", "--no-display-prompt", "-fa", "off", "-ctk", "f32", "-ctv", "f32")
        count = len(ours["ids"])
        apart = lambda theirs: max(abs(a - b) for a, b in zip(ours["logprobs"], theirs))
        print(
            f"{kind:7} log-probabilities: PEFT {apart(of_peft):.1e}, merged folder {apart(of_merged):.1e}; the same {count} tokens: "
            f"PEFT {peft[:count] == ours['ids']}, merged folder {merged[:count] == ours['ids']}, "
            f"llama.cpp {tokenizer.decode(ours['ids']).strip() in text.strip()}; other than the base: {plain['ids'] != ours['ids']}",
            flush=True,
        )


if __name__ == "__main__":
    main(*[Path(path) for path in sys.argv[1:]])
