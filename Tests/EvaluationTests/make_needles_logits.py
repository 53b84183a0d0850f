#!/usr/bin/env python3
"""Writes Fixtures/needles-logits.safetensors: the transformers library's logits of the shipped model.

Needs torch, transformers 5 and safetensors. The prompt is a sample of niah_multikey_2 as `lrqk ruler
--show-prompts` prints it; the file has its token ids and the logits of its last four positions.
"""

import os
import subprocess

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "..", "Examples", "Models", "needles")

shown = subprocess.run(
    ["lrqk", "ruler", "--model", MODEL, "--tasks", "niah_multikey_2", "--lengths", "700",
     "--samples", "1", "--show-prompts"], check=True, capture_output=True, text=True).stdout
prompt = shown.split("\n", 1)[1].split("\n---- references")[0]

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager")
ids = tokenizer(prompt)["input_ids"]
with torch.no_grad():
    logits = model.eval()(torch.tensor([ids])).logits[0, -4:].float().numpy()
save_file({"input_ids": np.array(ids, dtype=np.int32), "logits": logits},
          os.path.join(HERE, "Fixtures", "needles-logits.safetensors"))
print(f"{len(ids)} tokens; {sum(p.numel() for p in model.parameters())} parameters; "
      f"largest |logit| {abs(logits).max():.3f}")
