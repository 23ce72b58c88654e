#!/usr/bin/env python3
"""Tiny GGUF files of the families, written by llama.cpp's own converter, and transformers' logits for the same weights.

    pip install torch transformers safetensors numpy gguf
    python golden/families_gguf.py LLAMA_CPP golden/gguf

LLAMA_CPP is a source tree of llama.cpp (its `conversion` package is what is run). The files hold no vocabulary. What a
converter doesn't write can't be read: a window of Mistral or Qwen2, or Gemma's pattern, stays as GGUF files have it.
"""

import json
import sys
import tempfile
from pathlib import Path

import families

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 16, "norm_topk_prob": True}
GEMMA = {**families.GEMMA, "query_pre_attn_scalar": 16}

CASES = {
    "llama": {"model_type": "llama", "rope_theta": 500.0, "rope_scaling": families.LLAMA3},
    "llama-yarn": {"model_type": "llama", "rope_parameters": families.YARN, "attention_bias": True},
    "llama-linear": {"model_type": "llama", "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "mixtral": {"model_type": "mixtral", "sliding_window": None, "num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "rope_theta": 1e6, "head_dim": 16},
    "qwen3_moe": {"model_type": "qwen3_moe", "rope_theta": 1e6, **MOE},
    "gemma2": {
        "model_type": "gemma2",
        "num_hidden_layers": 2,
        "rope_theta": 10000.0,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        **GEMMA,
    },
    # Six layers: the last sees everything.
    "gemma3": {"model_type": "gemma3_text", "num_hidden_layers": 6, "rope_theta": 1e6, **GEMMA},
    "phi3": {"model_type": "phi3", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "sliding_window": 20},
    "phi3-longrope": {**families.CASES["phi3-longrope"], "sliding_window": 64},
}

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
}


def convert(folder, config, out_path):
    import gguf
    from conversion import get_model_class

    architecture = ARCHITECTURES[config["model_type"]]
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    # Gemma's converter counts tokens here.
    vocabulary = {f"token {index}": index for index in range(config["vocab_size"])}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    converter = get_model_class(architecture)
    converter.set_vocab = lambda self: None
    converter(folder, gguf.LlamaFileType.ALL_F32, out_path).write()


def main(llama_cpp, out_folder):
    sys.path[:0] = [llama_cpp, str(Path(llama_cpp) / "gguf-py")]
    lines = []
    for name, differences in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            # The converter writes the folder's name into the file.
            folder = Path(scratch) / "tiny"
            case = families.case(name, SMALL | differences, folder)
            convert(folder, case["config"], Path(out_folder) / f"{name}.gguf")
        lines.append("  " + json.dumps({"name": name, "sequences": case["sequences"]}))
    with open(Path(out_folder) / "logits.json", "w", encoding="utf-8") as out:
        out.write('{"cases": [\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
