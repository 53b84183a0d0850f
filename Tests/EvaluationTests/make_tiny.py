#!/usr/bin/env python3
"""Writes Fixtures/tiny: a random Qwen 3 of 2 layers with a tokenizer of 505 tokens.

Needs torch and transformers 5. The tokenizer is the tiny byte-level BPE of
Tests/TransformersTests (make_tokenizers.py). The model knows nothing; what matters is that it is a
complete checkpoint whose attention is spread out enough for cache methods to differ.
"""

import os
import shutil

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "Fixtures", "tiny")
TOKENIZER = os.path.join(HERE, "..", "TransformersTests", "Fixtures", "Tokenizers", "gpt2")

torch.manual_seed(20260)
model = Qwen3ForCausalLM(
    Qwen3Config(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=True,
        initializer_range=0.25, bos_token_id=None, eos_token_id=0))
model.to(torch.bfloat16).save_pretrained(FOLDER)
os.remove(os.path.join(FOLDER, "generation_config.json"))
for name in ["tokenizer.json", "tokenizer_config.json"]:
    shutil.copy(os.path.join(TOKENIZER, name), FOLDER)
