#!/usr/bin/env python3
"""Reference vectors of all-MiniLM-L6-v2, computed in f32 by transformers and PyTorch.

    pip install torch transformers
    python golden/minilm.py FOLDER golden/minilm.json

FOLDER is the model as published (config.json, model.safetensors, tokenizer.json). Tokens' last states are averaged over
the attention mask and scaled to length 1, as the model's card says.
"""

import hashlib
import json
import pathlib
import sys

import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "How long must the kiln cool before the door may be opened?",
    "The door stays locked until the chamber is below 60 °C, which takes about nine hours.",
    "Café Zürich serves naïve résumés; UPPER lower.",
    "锅炉启动之前，请先检查水压。",
    "",
    "internationalization " * 40,
]


def main(folder, out):
    weights = pathlib.Path(folder, "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    records = []
    for text in TEXTS:
        batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        vector = (hidden * mask).sum(1) / mask.sum(1)
        vector = torch.nn.functional.normalize(vector)[0]
        records.append(
            {
                "text": text,
                "ids": batch["input_ids"][0].tolist(),
                "vector": [round(value, 6) for value in vector.tolist()],
            }
        )
    sha256 = hashlib.sha256(weights).hexdigest()
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"weights_sha256": sha256, "texts": records}, file, ensure_ascii=False)
        file.write("\n")


main(*sys.argv[1:])
