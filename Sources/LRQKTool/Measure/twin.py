"""The work of `lrqk bench`, done with PyTorch: what --compare times in turn with ours.

In:  the arguments FOLDER and WORK; FOLDER/twin.json with sizes; FOLDER/NAME.f32 with numbers, row by row.
     Then one word a line on standard input.
Out: a line "ready VERSION"; then for each word "run" and the like the seconds of one run; for "answer"
     the last run's result into FOLDER/answer.f32, and the line "written".

Written from the formulas of the method (Docs/notation.md has the letters, Sources/LRQK the derivation), in
plain PyTorch operations over all heads at once, as one would write the method in PyTorch. Nothing is
compiled or scripted. What could be prepared is prepared before the clock starts: key heads are repeated for
their query heads, and buffers have room for all steps.
"""

import inspect
import json
import os
import sys
import time


class Attention:
    """One query of every head over all rows: PyTorch's own kernel, key/value heads shared."""

    def __init__(self, torch, sizes, read):
        self.torch = torch
        H, M, l, d = sizes["query_heads"], sizes["key_value_heads"], sizes["tokens"], sizes["width"]
        self.q = read("q", 1, H, 1, d)
        self.k, self.v = read("k", 1, M, l, d), read("v", 1, M, l, d)

    def run(self):
        self.result = self.torch.nn.functional.scaled_dot_product_attention(
            self.q, self.k, self.v, enable_gqa=True)

    def answer(self):
        return self.result


def factorise(torch, Q, K, A_Q, A_K, sweeps):
    """Stages 1 and 2 for all heads, as the paper has them: every update runs over all l rows."""
    solve = torch.linalg.solve
    for _ in range(sweeps):
        B_Q = solve(A_Q.mT @ A_Q, A_Q.mT @ Q)
        S_K, C_K = A_K.mT @ A_K, A_K.mT @ K
        B_K = solve(S_K, C_K)
        A_Q = Q @ solve(S_K + B_Q @ B_Q.mT, C_K + B_Q).mT
        A_K = K @ solve(A_Q.mT @ A_Q + B_K @ B_K.mT, A_Q.mT @ Q + B_K).mT
    B_Q = solve(A_Q.mT @ A_Q, A_Q.mT @ Q)
    B_K = solve(A_K.mT @ A_K, A_K.mT @ K)
    return A_Q, B_Q, A_K, B_K


class Prefill:
    """The factorisation of a prompt, from a given start."""

    def __init__(self, torch, sizes, read):
        self.torch, self.sweeps = torch, sizes["iterations"]
        H, M, l, d, r = (sizes[n] for n in ("query_heads", "key_value_heads", "tokens", "width", "rank"))
        self.Q = read("q", H, l, d)
        self.K = read("k", M, l, d).repeat_interleave(H // M, 0)
        self.A_Q, self.A_K = read("a_q", H, l, r), read("a_k", H, l, r)

    def run(self):
        self.result = factorise(self.torch, self.Q, self.K, self.A_Q, self.A_K, self.sweeps)

    def answer(self):
        return self.result[2]


class Decode:
    """Stages 3 to 8 for one new token after another; slots are k selected rows and then w recent ones."""

    def __init__(self, torch, sizes, read):
        self.torch, self.alternations = torch, sizes["iterations"]
        H, M, l, d, r = (sizes[n] for n in ("query_heads", "key_value_heads", "tokens", "width", "rank"))
        k, w, total = sizes["selected"], sizes["recent"], sizes["total"]
        self.k, self.w, self.length = k, w, l
        self.queries = read("q", H, total, d)
        self.host_k, self.host_v = read("k", M, total, d), read("v", M, total, d)
        self.key_head = torch.arange(H) // (H // M)
        A_Q, self.B_Q, A_K, self.B_K = factorise(
            torch, self.queries[:, :l], self.host_k[:, :l].repeat_interleave(H // M, 0),
            read("a_q", H, l, r), read("a_k", H, l, r), sizes["iterations"])
        self.A_K = torch.zeros(H, total, r)
        self.A_K[:, :l] = A_K
        chosen = self.choose(A_Q[:, l - 1], l - w)
        recent = torch.empty(w, dtype=torch.long)
        for t in range(l - w, l):
            recent[t % w] = t
        self.token = torch.cat([chosen, recent.expand(H, w)], 1)
        self.slot_k, self.slot_v = self.rows(self.host_k), self.rows(self.host_v)

    def rows(self, host):
        return host[self.key_head[:, None], self.token].contiguous()

    def choose(self, q_hat, candidates):
        scores = self.A_K[:, :candidates] @ q_hat[..., None]
        return scores[..., 0].topk(self.k, dim=1).indices.sort(dim=1).values

    def run(self):
        torch, t = self.torch, self.length
        q = self.queries[:, t]
        k, v = self.host_k[self.key_head, t], self.host_v[self.key_head, t]
        # The new row takes the oldest one's place. Its code is still zero, so it adds nothing to Omega.
        place = self.k + t % self.w
        self.token[:, place] = t
        self.slot_k[:, place], self.slot_v[:, place] = k, v
        q_hat, k_hat = self.codes(q, k)
        self.B_Q = self.follow(self.B_Q, q_hat, q)
        self.B_K = self.follow(self.B_K, k_hat, k)
        self.A_K[:, t] = k_hat
        self.bring(self.choose(q_hat, t - self.w))
        self.result = torch.nn.functional.scaled_dot_product_attention(
            q[:, None], self.slot_k, self.slot_v)
        self.length = t + 1

    def codes(self, q, k):
        """Stage 3: q_hat and k_hat in turn."""
        torch = self.torch
        A = self.A_K.gather(1, self.token[..., None].expand(-1, -1, self.A_K.shape[2]))
        exact = self.slot_k @ q[..., None]
        gram_q = self.B_Q @ self.B_Q.mT + A.mT @ A
        cross_q = self.B_Q @ q[..., None] + A.mT @ exact
        gram_k, cross_k = self.B_K @ self.B_K.mT, self.B_K @ k[..., None]
        product = (q * k).sum(1)[:, None, None]
        k_hat = torch.linalg.solve(gram_k, cross_k)
        for _ in range(self.alternations):
            q_hat = torch.linalg.solve(gram_q + k_hat @ k_hat.mT, cross_q + product * k_hat)
            k_hat = torch.linalg.solve(gram_k + q_hat @ q_hat.mT, cross_k + product * q_hat)
        return q_hat[..., 0], k_hat[..., 0]

    def follow(self, B, code, row):
        """Stage 4: one gradient step with exact line search on 1/2 |code B - row|^2."""
        gradient = code[..., None] * ((code[:, None] @ B)[:, 0] - row)[:, None]
        along = code[:, None] @ gradient
        eta = gradient.square().sum((1, 2)) / (along.square().sum((1, 2)) + 1e-6)
        return B - eta[:, None, None] * gradient

    def bring(self, chosen):
        """Stage 7: rows that are chosen and not in a slot take the slots of those that are not chosen."""
        torch, held = self.torch, self.token[:, :self.k]
        there = torch.zeros(self.A_K.shape[:2], dtype=torch.bool)
        missing = ~there.scatter(1, held, True).gather(1, chosen)
        free = ~there.scatter(1, chosen, True).gather(1, held)
        heads, slots = free.nonzero(as_tuple=True)
        tokens = chosen[missing]  # as many for each head as it has free slots, in the same order of heads
        self.token[heads, slots] = tokens
        source = self.key_head[heads]
        self.slot_k[heads, slots] = self.host_k[source, tokens]
        self.slot_v[heads, slots] = self.host_v[source, tokens]

    def answer(self):
        return self.result


class Generate:
    """A model's folder through transformers: a prompt, then greedy steps."""

    def __init__(self, torch, sizes, read):
        import transformers

        self.torch = torch
        dtype = sizes["dtype"]  # "auto": as the folder says
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            sizes["folder"], dtype=dtype if dtype == "auto" else getattr(torch, dtype)).eval()
        self.prompts = torch.tensor(sizes["prompts"])
        # Newer releases have another name for what older ones call past_key_values.
        known = inspect.signature(self.model.forward).parameters
        self.argument = "cache" if "cache" in known else "past_key_values"
        self.new_cache = transformers.DynamicCache

    def read(self, tokens):
        with self.torch.inference_mode():
            found = self.model(tokens, **{self.argument: self.cache}, use_cache=True, logits_to_keep=1)
        self.logits = found.logits[:, -1]

    def prompt(self):
        self.cache = self.new_cache()
        self.read(self.prompts)

    def step(self):
        self.read(self.logits.argmax(1, keepdim=True))

    def answer(self):
        return self.logits.float()


def main():
    folder, work = sys.argv[1:]
    import torch

    with open(os.path.join(folder, "twin.json"), encoding="utf-8") as file:
        sizes = json.load(file)
    torch.set_num_threads(sizes["processors"])
    torch.manual_seed(0)

    def read(name, *shape):
        count = 1
        for n in shape:
            count *= n
        path = os.path.join(folder, name + ".f32")
        # A copy: the file may go.
        return torch.from_file(path, size=count, dtype=torch.float32).reshape(shape).clone()

    works = {"attention": Attention, "prefill": Prefill, "decode": Decode, "generate": Generate}
    subject = works[work](torch, sizes, read)
    print("ready", torch.__version__.split("+")[0], flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "answer":
            numbers = subject.answer().contiguous().numpy()
            numbers.tofile(os.path.join(folder, "answer.f32"))
            print("written", flush=True)
            continue
        start = time.perf_counter()
        getattr(subject, word)()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
