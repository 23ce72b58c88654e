#!/usr/bin/env python3
"""Logits, loss and gradients of adapters on tiny models, computed by PEFT in f32: LoRA, rsLoRA, DoRA, some layers.

    pip install torch transformers peft safetensors numpy
    python golden/adapters.py golden/families.json golden/adapters.json

Base models are those of `golden/families.py`. Weights aren't stored: each is `offset + scale * u` by its tensor's name,
as there, so that a test makes the same ones. Adapters are written as folders and opened by `PeftModel`, so names, shapes
and keys are those that PEFT reads.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from families import signed
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

CASES = {
    "lora": ("llama", {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}),
    "rslora": ("qwen2", {"target_modules": ["q_proj", "down_proj"], "use_rslora": True}),
    "dora": ("qwen2", {"target_modules": ["q_proj", "v_proj", "o_proj", "up_proj"], "use_dora": True}),
    "last layers": ("llama", {"target_modules": ["k_proj", "gate_proj"], "layers_to_transform": [1, 2], "use_dora": True}),
    "all-linear": ("llama", {"target_modules": "all-linear"}),
}
LENGTH = 23
RECORDED_VALUES = 4


def write_base(case, folder):
    weights = {
        key: (np.float32(offset) + np.float32(scale) * signed(key, int(np.prod(shape)))).reshape(shape)
        for key, shape, offset, scale in case["tensors"]
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(case["config"]))


def case(name, base, settings, folder):
    write_base(base, folder)
    open_base = lambda: AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    config = LoraConfig(r=3, lora_alpha=5, task_type="CAUSAL_LM", **settings)
    adapter = folder / "adapter"
    fresh = get_peft_model(open_base(), config)
    fresh.save_pretrained(adapter)
    tensors, weights = [], {}
    for key, value in sorted(get_peft_model_state_dict(fresh).items()):
        offset, scale = (1.0, 0.4) if "magnitude" in key else (0.0, 0.3)
        shape = list(value.shape)
        weights[key] = (np.float32(offset) + np.float32(scale) * signed(key, int(np.prod(shape)))).reshape(shape)
        tensors.append([key, shape, offset, scale])
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    model = PeftModel.from_pretrained(open_base(), adapter, is_trainable=True)
    model.train()
    ids = [(i * i * 7 + i * 3 + 5) % base["config"]["vocab_size"] for i in range(LENGTH)]
    learnt = [i for i in range(1, LENGTH) if i % 5 < 3]
    logits = model(torch.tensor([ids])).logits[0]
    rows = torch.tensor([i - 1 for i in learnt])
    loss = torch.nn.functional.cross_entropy(logits[rows], torch.tensor([ids[i] for i in learnt]))
    loss.backward()
    # Under the names of the saved file.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.grad
    gradients = {}
    for key, value in sorted(get_peft_model_state_dict(model).items()):
        flat = value.flatten()
        gradients[key] = [value.norm().item()] + [flat[i].item() for i in range(min(RECORDED_VALUES, len(flat)))]
    return {
        "name": name,
        "base": base["name"],
        "settings": json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": None},
        "tensors": tensors,
        "ids": ids,
        "learnt": learnt,
        "logits": [round(value, 5) for value in logits[-1].tolist()],
        "loss": loss.item(),
        "gradients": gradients,
    }


def main(families_path, out_path):
    torch.manual_seed(0)
    families = {case["name"]: case for case in json.loads(Path(families_path).read_text())["cases"]}
    lines = []
    for name, (base, settings) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            lines.append("  " + json.dumps(case(name, families[base], settings, Path(folder))))
    with open(out_path, "w", encoding="utf-8") as out:
        out.write('{"cases": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
