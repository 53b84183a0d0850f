#!/usr/bin/env python3
"""Writes Fixtures/tiny: a random Qwen 3 of 2 layers and a byte-level BPE tokenizer of 512 tokens.

Needs torch, transformers 5 and tokenizers. The tokenizer is trained on the words of
Sources/Tasks/WordLists.swift and the tasks' sentences. The model knows nothing; what matters is
that it is a complete checkpoint whose attention is spread out enough for cache methods to differ.
"""

import json
import os
import re

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3Config, Qwen3ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "Fixtures", "tiny")
SOURCES = os.path.join(HERE, "..", "..", "Sources", "Evaluation")
FILES = ["WordLists", "Needles", "VariableTracking", "CommonWords", "FrequentWords", "Questions"]

text = []
for name in FILES:
    with open(os.path.join(SOURCES, name + ".swift"), encoding="utf-8") as file:
        source = file.read()
    text += re.findall(r'"([^"]{20,})"', source)
    text += [" " + word for word in re.findall(r"^    ([a-z ]+)$", source, re.M)]
text += [" the", " and a", " was", " to", " One of the special magic numbers for"] * 50

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[0-9]| ?[^A-Za-z0-9\s]+|\s+"), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(text, trainers.BpeTrainer(
    vocab_size=512, special_tokens=["<|endoftext|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
os.makedirs(FOLDER, exist_ok=True)
tokenizer.save(os.path.join(FOLDER, "tokenizer.json"))
with open(os.path.join(FOLDER, "tokenizer_config.json"), "w", encoding="utf-8") as file:
    json.dump({"eos_token": "<|endoftext|>"}, file)

torch.manual_seed(20260)
model = Qwen3ForCausalLM(
    Qwen3Config(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=True,
        initializer_range=0.25, bos_token_id=None, eos_token_id=0))
model.to(torch.bfloat16).save_pretrained(FOLDER)
os.remove(os.path.join(FOLDER, "generation_config.json"))
for name in os.listdir(FOLDER):
    os.chmod(os.path.join(FOLDER, name), 0o644)
