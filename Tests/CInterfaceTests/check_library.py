"""The library from Python: against NumPy formulas, the authors' recordings, wrong calls, and eight threads.

    python3 Tests/CInterfaceTests/check_library.py          (LRQK_LIBRARY names the library; needs NumPy)

Bits are KernelTests.swift's business. Here an independent text, NumPy in float64, says what the numbers
should be, and Tests/ReplayTests/Golden what the authors' code computed. A float32 result X passes against the
formula's R when max|X - R| <= 4 max|P - R| + 4 u max|R|, where P is the same formula in NumPy's float32 and u is
2^-24: NumPy adds in another order, which may be the better one, so its error is allowed four times.
"""

import concurrent.futures
import json
import pathlib
import re
import struct
import sys
import threading
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Notebooks"))
import lrqk  # noqa: E402

LIBRARY = lrqk.Library()
HEADER = (ROOT / "Sources/CLRQK/include/lrqk.h").read_text(encoding="utf-8")
RANDOM = np.random.default_rng(3)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def safetensors(name):
    """Tensors and metadata of a file: eight bytes of length, JSON, then the numbers."""
    data = (ROOT / "Tests/ReplayTests/Golden" / f"{name}.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__")
    kinds = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
    tensors = {}
    for key, entry in header.items():
        first, end = (8 + length + n for n in entry["data_offsets"])
        tensors[key] = np.frombuffer(data[first:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def relative(x, y):
    return np.linalg.norm(np.asarray(x, np.float64) - y) / np.linalg.norm(y)


class Case(unittest.TestCase):
    def near(self, X, formula, *inputs, name=""):
        """X against formula(*inputs) in float64; the limit from the same formula in float32."""
        R = formula(*(np.asarray(a, np.float64) if np.asarray(a).dtype == np.float32 else a for a in inputs))
        P = formula(*inputs)
        error, plain = np.abs(X - R).max(), np.abs(P - R).max()
        limit = 4 * plain + 4 * 2.0**-24 * np.abs(R).max()
        self.assertEqual(X.shape, R.shape)
        self.assertEqual(X.dtype, np.float32)
        self.assertLessEqual(error, limit, name)

    def refused(self, status, call, *arguments, **named):
        with self.assertRaises(lrqk.LRQKError) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.assertRegex(str(caught.exception), r"^[A-Z_]+: \S.*$")


class HeaderTests(Case):
    """lrqk.py says the same as lrqk.h."""

    def test_every_function_is_there(self):
        declared = re.findall(r"^lrqk_status (lrqk_\w+)\(", HEADER, re.M)
        self.assertEqual(sorted(declared), sorted(lrqk.FUNCTIONS))
        self.assertEqual(len(declared), 34)

    def test_arguments_are_the_headers(self):
        letters = {"int64_t": "n", "double": "d", "int32_t": "i", "lrqk_preset": "i", "lrqk_cache": "u", "size_t": "b"}
        for name, text in re.findall(r"^lrqk_status (lrqk_\w+)\(([^;]*)\);", HEADER, re.M):
            arguments = ""
            for argument in re.sub(r"\s+", " ", text).split(","):
                argument = argument.strip().removeprefix("const ")
                arguments += "p" if "*" in argument else letters[argument.split()[0]]
            if "char *message" in text:
                arguments = arguments[:-2] + "m"
            self.assertEqual(arguments, lrqk.FUNCTIONS[name], name)

    def test_numbers_are_the_headers(self):
        numbers = {name: int(value) for name, value in re.findall(r"\b(LRQK_[A-Z_]+) = (\d+)", HEADER)}
        for status in lrqk.Status:
            self.assertEqual(numbers["LRQK_OK" if status == 0 else f"LRQK_ERROR_{status.name}"], status)
            self.assertNotEqual(LIBRARY._c.lrqk_status_name(status), b"unknown status")
        prefixes = {"code_sharing": "", "transfers": ""}
        for choice, words in lrqk.CHOICES.items():
            for word, number in words.items():
                name = f"{prefixes.get(choice, choice + '_')}{word}".upper()
                self.assertEqual(numbers[f"LRQK_{name}"], number, name)
        for number, word in lrqk.PHASES.items():
            self.assertEqual(numbers[f"LRQK_PHASE_{word.upper()}"], number)
        for number, word in lrqk.DIRECTIONS.items():
            self.assertEqual(LIBRARY._c.lrqk_direction_name(number).decode(), word)
        for number, word in lrqk.REASONS.items():
            self.assertEqual(LIBRARY._c.lrqk_reason_name(number).decode(), word)

    def test_structs_are_the_headers(self):
        for name, structure in [("options", lrqk.Options), ("cache_info", lrqk._Info), ("event", lrqk._Event),
                                ("total", lrqk._Total), ("bytes", lrqk._Bytes)]:
            body = re.search(r"typedef struct lrqk_%s \{(.*?)\} lrqk_%s;" % (name, name), HEADER, re.S)[1]
            fields = re.findall(r"^\s*(\w+) (\w+);", re.sub(r"/\*.*?\*/", "", body, flags=re.S), re.M)
            types = {"int64_t": lrqk._i64, "uint64_t": lrqk._u64, "double": lrqk._f64, "int32_t": lrqk._i32}
            self.assertEqual([(n, types[t]) for t, n in fields], structure._fields_, name)

    def test_version(self):
        self.assertIn(f'#define LRQK_VERSION "{LIBRARY.version}"', HEADER)

    def test_openblas_says_what_runs(self):
        self.assertRegex(LIBRARY.openblas, r"^OpenBLAS \d+\.\d+\S*, kernels of core type \w+(; .*)?$")


class KernelTests(Case):
    """Every function against a formula."""

    def test_sweeps(self):
        def sweep(Q, K, A_Q, A_K, weight_q, weight_k):
            B_Q, B_K = np.linalg.solve(A_Q.T @ A_Q, A_Q.T @ Q), np.linalg.solve(A_K.T @ A_K, A_K.T @ K)
            W_Q = np.linalg.solve(A_K.T @ A_K + weight_q * B_Q @ B_Q.T, A_K.T @ K + weight_q * B_Q).T
            A_Q = Q @ W_Q
            W_K = np.linalg.solve(A_Q.T @ A_Q + weight_k * B_K @ B_K.T, A_Q.T @ Q + weight_k * B_K).T
            return B_Q, B_K, W_Q, W_K, A_Q, K @ W_K

        Q, K, A_Q, A_K = normal(130, 12), normal(65, 12), normal(130, 5), normal(65, 5)
        out = LIBRARY.sweep_rowwise(Q, K, A_Q, A_K, 0.5, 2)
        for i, X in enumerate(out):
            self.near(X, lambda *a: sweep(*a, 0.5, 2)[i], Q, K, A_Q, A_K, name=f"result {i}")

        # The same through Gram matrices, from maps.
        X_Q, X_K = normal(12, 5), normal(12, 5)
        G_Q, G_K = Q.T @ Q, K.T @ K
        R = sweep(*(a.astype(np.float64) for a in (Q, K)), Q.astype(np.float64) @ X_Q, K.astype(np.float64) @ X_K, 0.5, 2)
        for i, X in enumerate(LIBRARY.sweep_gram(G_Q, G_K, X_Q, X_K, 0.5, 2)):
            # The Gram matrices were rounded to float32 on the way in: 130 u, times a condition near 10.
            self.assertLess(relative(X, R[i]), 1e-4, f"result {i}")

    def test_decode_codes(self):
        for name in ["decode-r8", "decode-weighted"]:
            t, m = safetensors(name)
            for b in range(int(m["batch"])):
                for h in range(int(m["heads"])):
                    own = LIBRARY.decode_codes(
                        t["q"][b, h], t["k"][b, h, 0], t["B_Q"][b, h], t["B_K"][b, h], t["A_K"][b, h][None],
                        t["K_selected"][b, h][None], int(m["iterations"]), float(m["lambda_1"]), float(m["lambda_2"]))
                    for X, key in zip(own, ["q_hat", "k_hat", "B_Q_new", "B_K_new"]):
                        R = t[f"{key}.f64"][b, h].reshape(X.shape)
                        theirs = relative(t[f"{key}.f32"][b, h].reshape(X.shape), R)
                        self.assertLessEqual(relative(X, R), 4 * theirs + 1e-6, f"{name} {b} {h} {key}")

    def test_scores_and_sets(self):
        A_K, q_hat = normal(300, 7), normal(4, 7)
        scores = LIBRARY.proxy_scores(A_K, q_hat)
        self.near(scores, lambda A, q: q @ A.T, A_K, q_hat)
        # Small integers: exact sums, and many ties.
        A_K, q_hat = (RANDOM.integers(-2, 3, shape).astype(np.float32) for shape in [(300, 7), (4, 7)])
        scores = LIBRARY.proxy_scores(A_K, q_hat)
        np.testing.assert_array_equal(scores, q_hat @ A_K.T)
        indices, gaps = LIBRARY.top_k(scores, 40)
        for row, own, gap in zip(scores, indices, gaps):
            order = np.argsort(-row, kind="stable")  # ties: the lower index first
            np.testing.assert_array_equal(own, np.sort(order[:40]))
            self.assertEqual(gap, row[order[39]] - row[order[40]])
        self.assertTrue((LIBRARY.top_k(scores, 300)[1] == np.inf).all())

    def test_plan_and_gather(self):
        K_host, V_host = normal(50, 3), normal(50, 3)
        S, k = 12, 9
        resident = np.full(S, -1)
        K, V = np.full((S, 3), np.nan), np.full((S, 3), np.nan)
        for _ in range(60):
            needed = np.sort(RANDOM.choice(50, k, replace=False))
            missed, slots, after = LIBRARY.plan(resident, needed)
            np.testing.assert_array_equal(missed, np.setdiff1d(needed, resident))
            free = [s for s in range(S) if resident[s] not in needed]
            np.testing.assert_array_equal(slots, free[:len(missed)])
            stayed = np.isin(resident, needed)
            np.testing.assert_array_equal(after[stayed], resident[stayed])
            K, V = LIBRARY.gather(K_host, V_host, missed, slots, K, V)
            resident = after
            for slot, token in enumerate(resident):
                if token >= 0:
                    np.testing.assert_array_equal(K[slot], K_host[token])
                    np.testing.assert_array_equal(V[slot], V_host[token])
            np.testing.assert_array_equal(np.sort(resident[resident >= 0]), needed)

    def test_attention(self):
        q, K, V = normal(6, 16), normal(2, 90, 16), normal(2, 90, 16)
        heads = np.arange(6) * 2 // 6

        def dense(q, K, V):
            weights = softmax(np.einsum("hld,hd->hl", K[heads], q) / np.sqrt(q.dtype.type(16)))
            return np.einsum("hl,hld->hd", weights, V[heads])

        self.near(LIBRARY.dense_attention(q, K, V), dense, q, K, V)
        slots = np.sort(RANDOM.permuted(np.tile(np.arange(90), (6, 1)), axis=1)[:, :20])

        def sparse(q, K, V):
            rows = heads[:, None], slots
            weights = softmax(np.einsum("hnd,hd->hn", K[rows], q) / np.sqrt(q.dtype.type(16)))
            return np.einsum("hn,hnd->hd", weights, V[rows])

        self.near(LIBRARY.sparse_attention(q, K, V, slots), sparse, q, K, V)
        # All rows in order are full attention, to the bit.
        every = np.tile(np.arange(90), (6, 1))
        np.testing.assert_array_equal(LIBRARY.sparse_attention(q, K, V, every), LIBRARY.dense_attention(q, K, V))

    def test_lrkv_attention(self):
        H, l, d, r = 3, 70, 12, 4
        inputs = [normal(H, d), normal(l, d), normal(l, d), normal(l, H, r), normal(l, H, r), normal(H, r, d),
                  normal(H, r, d)]

        def attention(q, K, V, C_K, C_V, U_K, U_V):
            keys = K[None] + np.einsum("lhr,hrd->hld", C_K, U_K)
            values = V[None] + np.einsum("lhr,hrd->hld", C_V, U_V)
            weights = softmax(np.einsum("hld,hd->hl", keys, q) / np.sqrt(q.dtype.type(d)))
            return np.einsum("hl,hld->hd", weights, values)

        self.near(LIBRARY.lrkv_attention(*inputs), attention, *inputs)

    def test_rope_and_norm(self):
        x, positions = normal(5, 3, 8), np.array([0, 1, 7, 500, 4000])

        def rope(x):
            frequencies = 10000.0 ** (-np.arange(4) * 2 / 8)
            angles = positions[:, None, None] * frequencies
            c, s = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
            a, b = x[..., :4], x[..., 4:]
            return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)

        # Angles are products in float32: at position 4000 they are known to 4000 * 2^-24 * 2 or so.
        error = np.abs(LIBRARY.rope(x, positions) - rope(x.astype(np.float64)))
        self.assertLess((error / (np.abs(x).max() * (4 + 4 * positions[:, None, None]) * 2.0**-24)).max(), 1)
        np.testing.assert_array_equal(LIBRARY.rope(x, positions)[0], x[0])
        rows, weight = normal(4, 31), normal(31)
        self.near(
            LIBRARY.rms_norm(rows, weight, 1e-5),
            lambda x, w: w * x / np.sqrt((x * x).mean(axis=1, keepdims=True) + x.dtype.type(1e-5)), rows, weight)


class CacheTests(Case):
    """The whole method."""

    def replay(self, name):
        """A recorded answer of the authors' cache; a batch is more heads."""
        t, m = safetensors(name)
        (batch, H, length, d), M = t["Q"].shape, t["K"].shape[1]
        l, steps, k = int(m["prompt_length"]), int(m["steps"]), int(m["top_k"])
        Q, K, V = (t[key].reshape(-1, length, d) for key in "QKV")
        A_Q, A_K = (t[key].reshape(batch * H, l, -1) for key in ["A_Q_init", "A_K_init"])
        no_reuse = m["variant"] == "no_hit_miss"
        with LIBRARY.cache(
                "paper", query_heads=batch * H, key_value_heads=batch * M, width=d, rank=int(m["rank"]), selected=k,
                recent=int(m["recent"]), solver="rowwise", initialization="given", seed=0,
                prefill_iterations=int(m["iterations"]), prefill_tolerance=float(m["tolerance"]),
                decode_iterations=int(m["iterations"]), decode_tolerance=float(m["tolerance"]),
                reuse="none" if no_reuse else "hit_miss") as cache:
            # In two chunks: chunks leave the same bits.
            for part in [slice(0, 17), slice(17, l)]:
                cache.extend_prompt(*(x[:, :l][:, part] for x in (Q, K, V)), A_Q[:, part], A_K[:, part])
            cache.complete_prompt()
            first = t["prefill.selected"].reshape(batch * H, k)
            if l > k + int(m["recent"]):
                np.testing.assert_array_equal(np.stack(cache.selected), np.sort(first))
            missed = 0
            for s in range(steps):
                step = cache.decode(Q[:, l + s], K[:, l + s], V[:, l + s])
                where = f"{name}, step {s + 1}"
                np.testing.assert_array_equal(np.stack(step.selected), t["selected"][s].reshape(-1, k), where)
                np.testing.assert_array_equal(step.missed, t["missed_rows"][s].reshape(-1), where)
                # The golden README's limits.
                self.assertLess(relative(step.attention, t["attention"][s].reshape(-1, d)), 1e-5, where)
                k_hat = np.stack([cache.step_codes(h)[1] for h in range(batch * H)])
                self.assertLess(relative(k_hat, t["k_hat"][s].reshape(batch * H, -1)), 2e-3, where)
                missed += int(step.missed.sum())
            for h in range(batch * H):
                for own, key in zip(cache.bases(h), ["final.B_Q", "final.B_K"]):
                    theirs = t[key].reshape(batch * H, -1, d)[h]
                    self.assertLess(relative(own, theirs), 0.02, f"{name} {key} of head {h}")
            # The ledger is the same count.
            total = cache.ledger_total("host_to_device", "miss")
            self.assertEqual(total["rows"], missed)
            self.assertEqual(total["bytes"], missed * 2 * d * 4)
            events = cache.ledger
            self.assertEqual(sum(e["bytes"] for e in events), cache.ledger_total()["bytes"])
            self.assertEqual(sum(e["rows"] for e in events if e["step"] == 3), cache.ledger_total(step=3)["rows"])
            self.assertEqual(any(e["reason"] == "reload" for e in events), no_reuse)
            info = cache.info
            self.assertEqual((info["tokens"], info["steps"], info["phase"]), (l + steps, steps, "sparse"))
            self.assertEqual(cache.bytes["full"], batch * M * (l + steps) * d * 8)

    def test_recordings(self):
        for name in ["gqa", "mha-batch2", "short-prompt", "topcol", "no-hit-miss"]:
            with self.subTest(name):
                self.replay(f"trajectory-{name}")

    sizes = {"query_heads": 4, "key_value_heads": 2, "width": 16, "rank": 4, "selected": 24, "recent": 8}

    def rows(self, tokens):
        return normal(4, tokens, 16), normal(2, tokens, 16), normal(2, tokens, 16)

    def test_recommended(self):
        Q, K, V = self.rows(120)
        options = LIBRARY.options("recommended", **self.sizes)
        selected, missed, attention = LIBRARY.decode_steps(options, Q, K, V, 100)
        with lrqk.Cache(LIBRARY, options) as cache:
            cache.prefill(Q[:, :100], K[:, :100], V[:, :100])
            for s in range(20):
                step = cache.decode(Q[:, 100 + s], K[:, 100 + s], V[:, 100 + s])
                np.testing.assert_array_equal(step.attention, attention[s])
                np.testing.assert_array_equal(np.stack(step.selected), selected[s])
                np.testing.assert_array_equal(step.missed, missed[s])
                # What the step says is what its codes say.
                for h in range(4):
                    q_hat, _ = cache.step_codes(h // 2)
                    best, gap = LIBRARY.top_k(LIBRARY.proxy_scores(cache.key_codes(h // 2)[:93 + s], q_hat), 24)
                    np.testing.assert_array_equal(best[h % 2], step.selected[h])
                    self.assertEqual(gap[h % 2], step.gaps[h])
                    rows = step.attended[h]
                    np.testing.assert_array_equal(
                        LIBRARY.dense_attention(Q[h:h + 1, 100 + s], K[h // 2][None, rows], V[h // 2][None, rows]),
                        step.attention[h:h + 1])
            # Linear codes: A_K = K W_K, and the closed form fits Q K' best. (1e-4: rounding times condition.)
            W_Q, W_K = cache.maps(0)
            self.assertLess(relative(cache.key_codes(0), K[0] @ W_K), 1e-4)
            stacked = np.concatenate([Q[0, :100], Q[1, :100]]).astype(np.float64)
            product = stacked @ K[0, :100].T.astype(np.float64)
            u, s, v = np.linalg.svd(product)
            self.assertLess(
                relative((stacked @ W_Q) @ (K[0, :100] @ W_K).T, (u[:, :4] * s[:4]) @ v[:4]), 1e-4)

    def test_refusals(self):
        Q, K, V = self.rows(40)
        S = lrqk.Status
        self.refused(S.PARAMETER, LIBRARY.options, "nonsense")
        self.refused(S.PARAMETER, LIBRARY.cache, "paper", **{**self.sizes, "rank": 4, "damping": 0.5})
        self.refused(S.PARAMETER, LIBRARY.cache, "paper", **{**self.sizes, "rank": 17})
        self.refused(S.SIZE, LIBRARY.cache, "paper", **{**self.sizes, "key_value_heads": 3})
        self.refused(S.MEMORY, LIBRARY.cache, "paper", **{**self.sizes, "selected": 2**30, "width": 4096})
        cache = LIBRARY.cache("paper", **self.sizes)
        self.refused(S.STATE, cache.decode, Q[:, 0], K[:, 0], V[:, 0])
        bad = V.copy()
        bad[1, 2, 3] = np.inf
        self.refused(S.NON_FINITE, cache.prefill, Q, K, bad)
        with self.assertRaises(ValueError):
            cache.prefill(Q, K, V[:, :39])
        with self.assertRaises(ValueError):
            cache.prefill(Q[:3], K, V)
        cache.prefill(Q, K, V)
        self.refused(S.STATE, cache.prefill, Q, K, V)
        self.refused(S.STATE, cache.maps, 0)
        cache.close()
        cache.close()
        self.refused(S.CLOSED, cache.decode, Q[:, 0], K[:, 0], V[:, 0])
        self.refused(S.SIZE, LIBRARY.top_k, normal(2, 5), 6)
        self.refused(S.SIZE, LIBRARY.proxy_scores, normal(0, 3), normal(1, 3))
        self.refused(S.BREAKDOWN, LIBRARY.sweep_gram, *(np.zeros((3, 3)),) * 2, *(normal(3, 2),) * 2)
        with self.assertRaises(TypeError):
            LIBRARY.options("paper", ranks=3)
        with self.assertRaises(ValueError):
            LIBRARY.options("paper", solver="magic")

    def test_eight_threads(self):
        Q, K, V = self.rows(90)
        presets = ["paper", "recommended"] * 4
        alone = {p: LIBRARY.decode_steps(LIBRARY.options(p, **self.sizes), Q, K, V, 60) for p in set(presets)}
        start = threading.Barrier(8)

        def work(preset):
            start.wait()
            return LIBRARY.decode_steps(LIBRARY.options(preset, **self.sizes), Q, K, V, 60)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for preset, results in zip(presets, pool.map(work, presets)):
                for own, expected in zip(results, alone[preset]):
                    np.testing.assert_array_equal(own, expected)


if __name__ == "__main__":
    print(f"{LIBRARY.path}, version {LIBRARY.version}; NumPy {np.__version__}")
    unittest.main(verbosity=1)
