"""Makes the tiny checkpoints that the tests of Transformers compare with.

Each is a random model of one family and one set of options, made, saved and run by the library
transformers; the weights are large enough that logits differ clearly. A folder holds config.json,
the weights, and expected.safetensors:

    input_ids   (l)               the prompt
    logits      (l, vocabulary)   of one forward pass, float32, attn_implementation="eager"
    generated   (24)              greedy continuation by generate(), with the library's cache

Every folder is read back before it is run, so that config.json means what the library makes of it;
some are rewritten to the layout of version 4 first. A seed is passed over if two best logits of any
greedy step lie closer than 1 % of the largest.

LRKV is no model of the library: a Llama of it with LRKV's attention in place of its own, written here
in whole keys and values (class LRKVAttention), generates without a cache.

For development only: the tests need neither this file nor Python.

    pip install torch transformers==5.23.0 safetensors
    python make_checkpoints.py Fixtures/Checkpoints
"""

import argparse
import json
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

SMALL = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=80,
    max_position_embeddings=256,
    initializer_range=0.25,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
SHORT, LONG = [1.0, 1.1, 1.3, 1.6], [1.5, 2.5, 4.0, 7.0]
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, short_factor=SHORT, long_factor=LONG)

LATENT = dict(
    num_key_value_heads=4,
    q_lora_rank=None,
    kv_lora_rank=12,
    qk_rope_head_dim=4,
    qk_nope_head_dim=6,
    v_head_dim=8,
    first_k_dense_replace=2,
    num_mtp_layers=0,
)

# name: family, options, dtype, prompt length, then perhaps layout=4 or a shard size.
CASES = {
    "llama2": ("Llama", dict(num_key_value_heads=4), "float32", 21, dict(layout=4)),
    "llama3": (
        "Llama",
        dict(rope_parameters=LLAMA3, tie_word_embeddings=True, head_dim=12),
        "bfloat16",
        70,
        {},
    ),
    "llama31-layout4": ("Llama", dict(rope_parameters=LLAMA3), "bfloat16", 40, dict(layout=4)),
    "llama-biases": ("Llama", dict(attention_bias=True, mlp_bias=True), "float16", 17, {}),
    "llama-linear": (
        "Llama",
        dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
        "float16",
        33,
        dict(layout=4),
    ),
    "llama-dynamic-short": (
        "Llama",
        dict(
            rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0),
            max_position_embeddings=32,
        ),
        "bfloat16",
        20,
        {},
    ),
    "llama-dynamic-long": (
        "Llama",
        dict(
            rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0),
            max_position_embeddings=32,
        ),
        "bfloat16",
        50,
        dict(layout=4),
    ),
    "llama-yarn": (
        "Llama",
        dict(
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=10000.0,
                factor=4.0,
                original_max_position_embeddings=64,
            ),
            head_dim=16,
        ),
        "bfloat16",
        60,
        {},
    ),
    "qwen2-yarn": (
        "Qwen2",
        dict(
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=1000000.0,
                factor=8.0,
                original_max_position_embeddings=32,
                beta_fast=16.0,
                beta_slow=2.0,
                mscale=0.8,
                mscale_all_dim=0.5,
                truncate=False,
            ),
        ),
        "bfloat16",
        50,
        {},
    ),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True), "float32", 30, dict(layout=4)),
    "qwen2-sliding": (
        "Qwen2",
        dict(
            use_sliding_window=True,
            sliding_window=8,
            max_window_layers=1,
            num_hidden_layers=3,
        ),
        "bfloat16",
        40,
        {},
    ),
    "qwen2-sharded": ("Qwen2", dict(), "bfloat16", 25, dict(shard="16KB")),
    "qwen3": ("Qwen3", dict(head_dim=16, tie_word_embeddings=True), "bfloat16", 30, {}),
    "qwen3-biases": (
        "Qwen3",
        dict(head_dim=8, attention_bias=True, num_key_value_heads=1),
        "float16",
        30,
        dict(layout=4),
    ),
    "mistral": ("Mistral", dict(sliding_window=8), "bfloat16", 40, {}),
    "mistral-whole": ("Mistral", dict(sliding_window=None, head_dim=24), "bfloat16", 40, dict(layout=4)),
    "phi3": ("Phi3", dict(sliding_window=12), "float32", 30, {}),
    "phi3-short": (
        "Phi3",
        dict(rope_parameters=LONGROPE, original_max_position_embeddings=128),
        "bfloat16",
        30,
        dict(layout=4),
    ),
    "phi3-long": (
        "Phi3",
        dict(rope_parameters=LONGROPE, original_max_position_embeddings=32),
        "bfloat16",
        50,
        {},
    ),
    "phi3-crossing": (
        "Phi3",
        dict(rope_parameters=LONGROPE, original_max_position_embeddings=32),
        "bfloat16",
        24,
        {},
    ),
    "phi3-partial": (
        "Phi3",
        dict(
            rope_parameters=dict(
                LONGROPE,
                short_factor=SHORT[:3],
                long_factor=LONG[:3],
                partial_rotary_factor=0.75,
            ),
            original_max_position_embeddings=32,
            tie_word_embeddings=True,
        ),
        "float16",
        40,
        dict(layout=4),
    ),
    "deepseek": ("DeepseekV3", LATENT, "bfloat16", 30, {}),
    "deepseek-halves": (
        "DeepseekV3",
        dict(LATENT, rope_interleave=False, v_head_dim=10, rms_norm_eps=1e-2, tie_word_embeddings=True),
        "float32",
        30,
        dict(layout=4),
    ),
    "lrkv": ("LRKV", dict(residual_rank=3), "bfloat16", 30, {}),
    "lrkv-shared-only": (
        "LRKV",
        dict(residual_rank=3, lrkv_positions="shared-only", tie_word_embeddings=True),
        "float16",
        30,
        {},
    ),
    "lrkv-rotated-residual": (
        "LRKV",
        dict(residual_rank=4, lrkv_positions="rotated-residual", head_dim=12),
        "float32",
        30,
        {},
    ),
    "lrkv-mqa": ("LRKV", dict(residual_rank=0), "bfloat16", 30, {}),
}


class LRKVAttention(torch.nn.Module):
    """Low-rank key value attention (arXiv 2601.11471) in whole keys, beside a causal mask of its own."""

    def __init__(self, config, rank, positions):
        super().__init__()
        H, d, D = config.num_attention_heads, config.head_dim, config.hidden_size
        self.sizes, self.positions, self.base = (H, d, rank), positions, config.rope_parameters["rope_theta"]

        def linear(outputs):
            layer = torch.nn.Linear(D, outputs, bias=False)
            torch.nn.init.normal_(layer.weight, std=config.initializer_range)
            return layer

        self.q_proj = linear(H * d)
        self.k_shared_proj, self.v_shared_proj = linear(d), linear(d)
        if rank:
            self.k_residual_proj, self.v_residual_proj = linear(H * rank), linear(H * rank)
            self.k_residual_factors = torch.nn.Parameter(torch.randn(H, d, rank) * 0.5)
            self.v_residual_factors = torch.nn.Parameter(torch.randn(H, d, rank) * 0.5)
        self.o_proj = torch.nn.Linear(H * d, D, bias=False)
        torch.nn.init.normal_(self.o_proj.weight, std=config.initializer_range)

    def turn(self, x):
        """RoPE over the whole last axis of x (..., tokens, width)."""
        half = x.shape[-1] // 2
        frequencies = 1.0 / self.base ** (torch.arange(0, half).float() * 2 / x.shape[-1])
        angles = torch.arange(x.shape[-2]).float()[:, None] * frequencies
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)

    def forward(self, hidden_states, **_):
        (H, d, r), (batch, l, _) = self.sizes, hidden_states.shape
        heads = lambda x, width: x.view(batch, l, H, width).transpose(1, 2)
        q = heads(self.q_proj(hidden_states), d)
        k = self.k_shared_proj(hidden_states)[:, None].expand(batch, H, l, d)
        v = self.v_shared_proj(hidden_states)[:, None].expand(batch, H, l, d)
        rest = 0.0
        if r:
            residual = heads(self.k_residual_proj(hidden_states), r)
            B = self.k_residual_factors
            if self.positions == "rotated":
                k = k + torch.einsum("bhtr,hdr->bhtd", residual, B)
            elif self.positions == "shared-only":
                rest = q @ torch.einsum("bhtr,hdr->bhtd", residual, B).transpose(-1, -2)
            else:
                short = torch.einsum("bhtd,hdr->bhtr", q, B)
                rest = self.turn(short) @ self.turn(residual).transpose(-1, -2)
            v = v + torch.einsum(
                "bhtr,hdr->bhtd", heads(self.v_residual_proj(hidden_states), r), self.v_residual_factors
            )
        scores = (self.turn(q) @ self.turn(k).transpose(-1, -2) + rest) / d**0.5
        scores = scores.masked_fill(torch.ones(l, l).triu(1).bool(), float("-inf"))
        answer = torch.softmax(scores, -1) @ v
        return self.o_proj(answer.transpose(1, 2).reshape(batch, l, H * d)), None


def lrkv(config, options):
    """A Llama whose attention is LRKV's."""
    model = transformers.LlamaForCausalLM(config)
    positions = options.get("lrkv_positions", "rotated")
    for layer in model.model.layers:
        layer.self_attn = LRKVAttention(config, options["residual_rank"], positions)
    return model


def lrkv_save(model, options, folder):
    """config.json and weights; nothing of Llama's that LRKV does not have."""
    config = {
        **json.loads(model.config.to_json_string()),
        **options,
        "architectures": ["LRKVForCausalLM"],
        "model_type": "lrkv",
    }
    for key in ("num_key_value_heads", "attention_bias", "mlp_bias"):
        del config[key]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    state = {k: v.contiguous() for k, v in model.state_dict().items() if k not in tied}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def layout4(path):
    """Rewrites config.json to the keys of version 4: rope_theta and rope_scaling."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if "original_max_position_embeddings" in config:
        rope.pop("original_max_position_embeddings", None)
    kind = rope.pop("rope_type")
    rope = {"type" if kind in ("linear", "longrope", "dynamic") else "rope_type": kind, **rope}
    config["rope_scaling"] = None if kind == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.45.0"
    path.write_text(json.dumps(config, indent=2) + "\n")


def margin(model, ids, generated):
    """Smallest distance of the two best logits of any greedy step, relative to the largest."""
    with torch.no_grad():
        steps = model.generate(
            ids[None],
            max_new_tokens=len(generated),
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        ).logits
    tops = [torch.topk(step[0], 2).values for step in steps]
    return min(((a - b) / a.abs()).item() for a, b in tops)


def make(folder, name, seed):
    family, options, dtype, length, how = CASES[name]
    torch.manual_seed(seed)
    options = json.loads(json.dumps(options))
    ours = family == "LRKV"
    config = getattr(transformers, ("Llama" if ours else family) + "Config")(**{**SMALL, **options})
    model = lrkv(config, options) if ours else getattr(transformers, family + "ForCausalLM")(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            elif key.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(getattr(torch, dtype))
    if ours:
        lrkv_save(model, options, folder)
    else:
        model.save_pretrained(folder, max_shard_size=how.get("shard", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if how.get("layout") == 4:
        layout4(folder / "config.json")

    def load():
        if ours:
            fresh = lrkv(config, options)
            fresh.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
            fresh.tie_weights()
            fresh.generation_config.use_cache = False
            return fresh.float().eval()
        # A fresh model each time: dynamic RoPE remembers the longest sequence it has seen.
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    ids = torch.randint(0, config.vocab_size, (length,))
    with torch.no_grad():
        logits = load()(ids[None]).logits[0]
        generated = load().generate(ids[None], max_new_tokens=24, do_sample=False)[0, length:]
    if len(generated) != 24 or margin(load(), ids, generated) < 0.01:
        return False
    tensors = dict(
        input_ids=ids.to(torch.int32), logits=logits, generated=generated.to(torch.int32)
    )
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "expected.safetensors")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="where the checkpoints go")
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(CASES)}; default all")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in arguments.names or CASES:
        seed = next(s for s in range(1000) if make(arguments.folder / name, name, s))
        print(f"{name}: seed {seed}")


if __name__ == "__main__":
    main()
