"""LRQK's C library for Python: NumPy arrays in, NumPy arrays out.

    import lrqk
    library = lrqk.Library()                     # or Library("/path/to/libLRQK.so")
    scores = library.proxy_scores(A_K, q_hat)    # (c, r), (H, r) -> (H, c)
    with library.cache("recommended", query_heads=4, key_value_heads=2, width=16,
                       rank=4, selected=24, recent=8) as cache:
        cache.prefill(Q, K, V)                   # (H, l, d), (M, l, d), (M, l, d)
        step = cache.decode(q, k, v)             # (H, d), (M, d), (M, d)
        step.attention, step.selected, step.missed

One method for each function of Sources/CLRQK/include/lrqk.h, which says what every one computes; letters
are the header's. Arrays may have any strides and any type that converts to float32 (int32 for tokens and
slots): they are converted and copied where need be, and results are new arrays. Shapes are checked here, so
that no array is read beyond its end. What the library refuses is an LRQKError with its status and message.
Any number of threads may use one Library; ctypes lets go of Python's lock during a call.

The library is found, in this order: the argument, the environment variable LRQK_LIBRARY, .build/release of
the package that this file lies in. `swift build -c release --product LRQK` builds it.
"""

import ctypes
import dataclasses
import enum
import os
import pathlib

import numpy as np


class Status(enum.IntEnum):
    OK = 0
    NULL = 1
    SIZE = 2
    PARAMETER = 3
    NON_FINITE = 4
    BREAKDOWN = 5
    MEMORY = 6
    CLOSED = 7
    STATE = 8
    INTERNAL = 9


class LRQKError(Exception):
    """A status other than OK; `status` says which, the text why."""

    def __init__(self, status, message):
        self.status = Status(status)
        super().__init__(f"{self.status.name}: {message}")


# Choices by the names of the header, lower case: "gram" is LRQK_SOLVER_GRAM.
CHOICES = {
    "preset": {"paper": 1, "recommended": 2},
    "solver": {"rowwise": 1, "gram": 2, "spectral": 3},
    "initialization": {"gaussian": 1, "top_columns": 2, "shared_top_columns": 3, "spectral": 4, "given": 5},
    "weighted_update": {"gauss_seidel": 1, "jacobi": 2},
    "arithmetic": {"reference": 1, "library": 2},
    "code_map": {"alternating": 1, "linear": 2},
    "basis_update": {"projection": 1, "damped": 2, "frozen": 3},
    "code_sharing": {"per_query_head": 1, "per_key_value_head": 2},
    "transfers": {"per_query_head": 1, "per_key_value_head": 2},
    "candidates": {"all": 1, "released": 2},
    "support": {"own": 1, "group": 2},
    "reuse": {"hit_miss": 1, "none": 2},
    "breakdown": {"stop": 1, "proceed": 2},
}
PHASES = {1: "prompt", 2: "collecting", 3: "dense", 4: "sparse", 5: "broken"}
DIRECTIONS = {1: "host_to_device", 2: "device_to_host"}
REASONS = {1: "prompt-offload", 2: "ring-flush", 3: "miss", 4: "reload"}

_i32, _i64, _u64, _f64 = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_double


class Options(ctypes.Structure):
    """lrqk_options, field for field."""

    _fields_ = (
        [(name, _i64) for name in (
            "query_heads", "key_value_heads", "width", "rank", "selected", "recent", "window", "layer",
            "device_capacity", "prefill_iterations", "decode_iterations", "map_refresh")]
        + [("seed", _u64)]
        + [(name, _f64) for name in (
            "prefill_tolerance", "decode_tolerance", "lambda_q", "lambda_k", "lambda_1", "lambda_2",
            "damping", "ridge")]
        + [(name, _i32) for name in (
            "solver", "initialization", "weighted_update", "arithmetic", "code_map", "basis_update",
            "code_sharing", "transfers", "candidates", "reuse", "breakdown", "support")])


class _Info(ctypes.Structure):
    _fields_ = (
        [(name, _i64) for name in (
            "query_heads", "key_value_heads", "width", "rank", "codes", "holders", "tokens", "steps",
            "recent_first", "recent_count")]
        + [("condition", _f64), ("pivoted", _i32), ("phase", _i32)])


class _Event(ctypes.Structure):
    _fields_ = (
        [(name, _i64) for name in ("step", "layer", "head", "rows", "bytes")]
        + [("direction", _i32), ("reason", _i32)])


class _Total(ctypes.Structure):
    _fields_ = [(name, _i64) for name in ("events", "rows", "bytes")]


class _Bytes(ctypes.Structure):
    _fields_ = [(name, _i64) for name in ("resident", "peak", "host", "full")]


def _values(structure):
    return {name: getattr(structure, name) for name, _ in structure._fields_}


# The arguments of every function, one letter each: n size, d double, i choice, p pointer, u handle,
# b size of a struct. Plain functions end in a message and its size, m. They all return a status.
FUNCTIONS = {
    "lrqk_sweep_rowwise": "nnnnppppddppppppm",
    "lrqk_sweep_gram": "nnppppddppppm",
    "lrqk_decode_codes": "nnnnppppppnddppppm",
    "lrqk_proxy_scores": "nnnpppm",
    "lrqk_top_k": "nnnpppm",
    "lrqk_plan": "nnppppppm",
    "lrqk_gather": "nnnnppppppm",
    "lrqk_sparse_attention": "nnnnnpppppm",
    "lrqk_dense_attention": "nnnnppppm",
    "lrqk_rope": "nnndpppm",
    "lrqk_rms_norm": "nnppdpm",
    "lrqk_lrkv_attention": "nnnnppppppppm",
    "lrqk_decode_steps": "pnnppppppm",
    "lrqk_options_init": "pbi",
    "lrqk_cache_create": "ppm",
    "lrqk_cache_free": "u",
    "lrqk_cache_message": "um",
    "lrqk_cache_prefill": "unppp",
    "lrqk_cache_extend_prompt": "unppp",
    "lrqk_cache_extend_prompt_from": "unppppp",
    "lrqk_cache_complete_prompt": "u",
    "lrqk_cache_decode": "upppp",
    "lrqk_cache_get_info": "upb",
    "lrqk_cache_selected": "unnpp",
    "lrqk_cache_attended": "unnpp",
    "lrqk_cache_hits": "unpp",
    "lrqk_cache_gaps": "unp",
    "lrqk_cache_key_codes": "unnnp",
    "lrqk_cache_step_codes": "unnnpp",
    "lrqk_cache_bases": "unnnpp",
    "lrqk_cache_maps": "unnnpp",
    "lrqk_cache_bytes": "upb",
    "lrqk_cache_ledger_total": "uiinpb",
    "lrqk_cache_ledger_events": "unnpbp",
}
_TYPES = {
    "n": [_i64], "d": [_f64], "i": [_i32], "p": [ctypes.c_void_p], "u": [_u64], "b": [ctypes.c_size_t],
    "m": [ctypes.c_char_p, ctypes.c_size_t],
}


def _find(path):
    if path is None:
        path = os.environ.get("LRQK_LIBRARY")
    if path is None:
        path = pathlib.Path(__file__).resolve().parent.parent / ".build/release/libLRQK.so"
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"{path}: no library there; build it with swift build -c release --product LRQK, or name it in "
            "LRQK_LIBRARY")
    return os.fspath(path)


def _shaped(array, name, axes, sizes, kind=np.float32):
    """`array` as contiguous numbers; `axes` ("l d") names its sizes, which `sizes` remembers and compares."""
    array = np.ascontiguousarray(array, dtype=kind)
    letters = axes.split()
    if array.ndim != len(letters):
        raise ValueError(f"{name} has shape {array.shape}, expected ({', '.join(letters)})")
    for letter, size in zip(letters, array.shape):
        if sizes.setdefault(letter, size) != size:
            raise ValueError(
                f"{name} has shape {array.shape}: its {letter} is {size}, but {sizes[letter]} elsewhere")
    return array


def _pointer(array):
    return None if array is None else array.ctypes.data


class Library:
    """libLRQK.so, loaded."""

    def __init__(self, path=None):
        self.path = _find(path)
        self._c = ctypes.CDLL(self.path)
        for name, letters in FUNCTIONS.items():
            function = getattr(self._c, name)
            function.argtypes = [t for letter in letters for t in _TYPES[letter]]
            function.restype = ctypes.c_int
        for name, argument in [("version", []), ("openblas", []), ("status_name", [ctypes.c_int]), ("direction_name", [_i32]),
                               ("reason_name", [_i32])]:
            function = getattr(self._c, f"lrqk_{name}")
            function.argtypes, function.restype = argument, ctypes.c_char_p
        self.version = self._c.lrqk_version().decode()
        self.openblas = self._c.lrqk_openblas().decode()

    def _call(self, name, *arguments):
        """A plain function: arrays and None as pointers, a message at the end."""
        message = ctypes.create_string_buffer(1000)
        given = [_pointer(a) if a is None or isinstance(a, np.ndarray) else a for a in arguments]
        status = getattr(self._c, f"lrqk_{name}")(*given, message, len(message))
        if status:
            raise LRQKError(status, message.value.decode())

    # ---- Kernels, in the order of the method -----------------------------------------------------------

    def sweep_rowwise(self, Q, K, A_Q, A_K, lambda_q=1.0, lambda_k=1.0):
        """Q (l_q, d), K (l_k, d), A_Q (l_q, r), A_K (l_k, r).

        Returns B_Q, B_K (r, d), W_Q, W_K (d, r), A_Q_new (l_q, r), A_K_new (l_k, r).
        """
        s = {}
        Q, K = _shaped(Q, "Q", "l_q d", s), _shaped(K, "K", "l_k d", s)
        A_Q, A_K = _shaped(A_Q, "A_Q", "l_q r", s), _shaped(A_K, "A_K", "l_k r", s)
        out = self._factors(s) + [_new(s["l_q"], s["r"]), _new(s["l_k"], s["r"])]
        self._call("sweep_rowwise", s["l_q"], s["l_k"], s["d"], s["r"], Q, K, A_Q, A_K, lambda_q, lambda_k, *out)
        return tuple(out)

    def sweep_gram(self, G_Q, G_K, W_Q, W_K, lambda_q=1.0, lambda_k=1.0):
        """G_Q, G_K (d, d), W_Q, W_K (d, r). Returns B_Q, B_K (r, d), W_Q_new, W_K_new (d, r)."""
        s = {}
        G_Q, G_K = _shaped(G_Q, "G_Q", "d d", s), _shaped(G_K, "G_K", "d d", s)
        W_Q, W_K = _shaped(W_Q, "W_Q", "d r", s), _shaped(W_K, "W_K", "d r", s)
        out = self._factors(s)
        self._call("sweep_gram", s["d"], s["r"], G_Q, G_K, W_Q, W_K, lambda_q, lambda_k, *out)
        return tuple(out)

    @staticmethod
    def _factors(s):
        r, d = s["r"], s["d"]
        return [_new(r, d), _new(r, d), _new(d, r), _new(d, r)]

    def decode_codes(self, q, k, B_Q, B_K, A_Omega, K_Omega, iterations=2, lambda_1=1.0, lambda_2=1.0):
        """q (G, d), k (d), B_Q, B_K (r, d), A_Omega (G, n, r), K_Omega (G, n, d).

        Returns q_hat (G, r), k_hat (r), B_Q_new, B_K_new (r, d).
        """
        s = {}
        q, k = _shaped(q, "q", "G d", s), _shaped(k, "k", "d", s)
        B_Q, B_K = _shaped(B_Q, "B_Q", "r d", s), _shaped(B_K, "B_K", "r d", s)
        A_Omega = _shaped(A_Omega, "A_Omega", "G n r", s)
        K_Omega = _shaped(K_Omega, "K_Omega", "G n d", s)
        G, n, d, r = s["G"], s["n"], s["d"], s["r"]
        out = [_new(G, r), _new(r), _new(r, d), _new(r, d)]
        self._call(
            "decode_codes", G, n, d, r, q, k, B_Q, B_K, A_Omega, K_Omega, iterations, lambda_1, lambda_2, *out)
        return tuple(out)

    def proxy_scores(self, A_K, q_hat):
        """A_K (c, r), q_hat (H, r). Returns scores (H, c)."""
        s = {}
        A_K, q_hat = _shaped(A_K, "A_K", "c r", s), _shaped(q_hat, "q_hat", "H r", s)
        scores = _new(s["H"], s["c"])
        self._call("proxy_scores", s["H"], s["c"], s["r"], A_K, q_hat, scores)
        return scores

    def top_k(self, scores, k):
        """scores (H, c). Returns indices (H, k), ascending, and gaps (H)."""
        s = {}
        scores = _shaped(scores, "scores", "H c", s)
        room = k if 0 < k <= s["c"] else 1  # a wrong k is for the library to refuse
        indices, gaps = _new(s["H"], room, kind=np.int32), _new(s["H"])
        self._call("top_k", s["H"], s["c"], k, scores, indices, gaps)
        return indices, gaps

    def plan(self, resident, needed):
        """resident (S), needed (k), ascending. Returns missed (m), their slots (m), new_resident (S)."""
        s = {}
        resident = _shaped(resident, "resident", "S", s, np.int32)
        needed = _shaped(needed, "needed", "k", s, np.int32)
        count = np.zeros(1, np.int64)
        missed, slots = _new(s["k"], kind=np.int32), _new(s["k"], kind=np.int32)
        after = _new(s["S"], kind=np.int32)
        self._call("plan", s["S"], s["k"], resident, needed, count, missed, slots, after)
        return missed[:count[0]], slots[:count[0]], after

    def gather(self, K_host, V_host, tokens, slots, K_dev, V_dev):
        """K_host, V_host (l, d), tokens, slots (m), K_dev, V_dev (S, d). Returns K_dev and V_dev afterwards."""
        s = {}
        K_host, V_host = _shaped(K_host, "K_host", "l d", s), _shaped(V_host, "V_host", "l d", s)
        tokens = _shaped(tokens, "tokens", "m", s, np.int32)
        slots = _shaped(slots, "slots", "m", s, np.int32)
        K_dev = _shaped(K_dev, "K_dev", "S d", s).copy()
        V_dev = _shaped(V_dev, "V_dev", "S d", s).copy()
        self._call("gather", s["l"], s["d"], s["m"], s["S"], K_host, V_host, tokens, slots, K_dev, V_dev)
        return K_dev, V_dev

    def sparse_attention(self, q, K, V, slots):
        """q (H, d), K, V (M, S, d), slots (H, n). Returns out (H, d)."""
        s = {}
        q, K, V = _shaped(q, "q", "H d", s), _shaped(K, "K", "M S d", s), _shaped(V, "V", "M S d", s)
        slots = _shaped(slots, "slots", "H n", s, np.int32)
        out = _new(s["H"], s["d"])
        self._call("sparse_attention", s["H"], s["M"], s["S"], s["n"], s["d"], q, K, V, slots, out)
        return out

    def dense_attention(self, q, K, V):
        """q (H, d), K, V (M, l, d). Returns out (H, d)."""
        s = {}
        q, K, V = _shaped(q, "q", "H d", s), _shaped(K, "K", "M l d", s), _shaped(V, "V", "M l d", s)
        out = _new(s["H"], s["d"])
        self._call("dense_attention", s["H"], s["M"], s["l"], s["d"], q, K, V, out)
        return out

    def rope(self, x, positions, base=10000.0):
        """x (n, H, d), positions (n). Returns y (n, H, d)."""
        s = {}
        x, positions = _shaped(x, "x", "n H d", s), _shaped(positions, "positions", "n", s, np.int32)
        y = _new(*x.shape)
        self._call("rope", s["n"], s["H"], s["d"], base, x, positions, y)
        return y

    def rms_norm(self, x, weight, eps=1e-5):
        """x (n, D), weight (D). Returns y (n, D)."""
        s = {}
        x, weight = _shaped(x, "x", "n D", s), _shaped(weight, "weight", "D", s)
        y = _new(*x.shape)
        self._call("rms_norm", s["n"], s["D"], x, weight, eps, y)
        return y

    def lrkv_attention(self, q, K, V, C_K, C_V, U_K, U_V):
        """q (H, d), K, V (l, d), C_K, C_V (l, H, r), U_K, U_V (H, r, d). Returns out (H, d)."""
        s = {}
        q, K, V = _shaped(q, "q", "H d", s), _shaped(K, "K", "l d", s), _shaped(V, "V", "l d", s)
        C_K, C_V = _shaped(C_K, "C_K", "l H r", s), _shaped(C_V, "C_V", "l H r", s)
        U_K, U_V = _shaped(U_K, "U_K", "H r d", s), _shaped(U_V, "U_V", "H r d", s)
        out = _new(s["H"], s["d"])
        self._call("lrkv_attention", s["H"], s["l"], s["d"], s["r"], q, K, V, C_K, C_V, U_K, U_V, out)
        return out

    # ---- Caches ------------------------------------------------------------------------------------------

    def options(self, preset, **choices):
        """lrqk_options: a preset, then fields by name; choices as words (see CHOICES), sizes as numbers."""
        options = Options()
        status = self._c.lrqk_options_init(
            ctypes.byref(options), ctypes.sizeof(options), CHOICES["preset"].get(preset, 0))
        if status:
            raise LRQKError(status, f"preset {preset!r}; known are {', '.join(CHOICES['preset'])}")
        fields = {name for name, _ in Options._fields_}
        for name, value in choices.items():
            if name not in fields:
                raise TypeError(f"lrqk_options has no field {name}")
            if isinstance(value, str):
                known = CHOICES.get(name, {})
                if value not in known:
                    raise ValueError(f"{name} {value!r}; known are {', '.join(known) or 'numbers'}")
                value = known[value]
            setattr(options, name, value)
        return options

    def cache(self, preset, **choices):
        """A Cache; arguments as for `options`."""
        return Cache(self, self.options(preset, **choices))

    def decode_steps(self, options, Q, K, V, prompt):
        """A whole answer: Q (H, l + T, d), K, V (M, l + T, d), of which the first `prompt` tokens are the prompt.

        Returns selected (T, H, n), n = k or H/M k (support group), -1 behind the last; missed (T, holders); attention (T, H, d).
        """
        s = {"H": options.query_heads, "M": options.key_value_heads, "d": options.width}
        Q, K, V = (_shaped(x, name, axes, s) for x, name, axes in
                   [(Q, "Q", "H n d"), (K, "K", "M n d"), (V, "V", "M n d")])
        T = s["n"] - prompt
        if prompt < 1 or T < 1:
            raise ValueError(f"a prompt of {prompt} of {s['n']} tokens")
        holders = s["M"] if options.transfers == CHOICES["transfers"]["per_key_value_head"] else s["H"]
        group = s["H"] // s["M"] if options.support == CHOICES["support"]["group"] else 1
        selected = _new(T, s["H"], group * max(options.selected, 1), kind=np.int32)
        missed, attention = _new(T, holders, kind=np.int64), _new(T, s["H"], s["d"])
        self._call("decode_steps", ctypes.byref(options), prompt, T, Q, K, V, selected, missed, attention)
        return selected, missed, attention


def _new(*shape, kind=np.float32):
    return np.zeros(shape, kind)


@dataclasses.dataclass
class Step:
    """What one decode step did."""

    attention: np.ndarray  # (H, d)
    selected: list  # by query head, ascending tokens
    attended: list  # by query head, ascending tokens
    hits: np.ndarray  # (holders)
    missed: np.ndarray  # (holders)
    gaps: np.ndarray  # (H)


class Cache:
    """The whole method for one layer. `close` it, or use it in a with statement."""

    def __init__(self, library, options):
        self._library, self._c = library, library._c
        self._handle = _u64(0)
        library._call("cache_create", ctypes.byref(options), ctypes.byref(self._handle))
        self._sizes = {"H": options.query_heads, "M": options.key_value_heads, "d": options.width,
                       "r": options.rank}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the cache; a second time does nothing."""
        self._c.lrqk_cache_free(self._handle)

    def _call(self, name, *arguments):
        given = [_pointer(a) if a is None or isinstance(a, np.ndarray) else a for a in arguments]
        status = getattr(self._c, f"lrqk_cache_{name}")(self._handle, *given)
        if status:
            message = ctypes.create_string_buffer(1000)
            if self._c.lrqk_cache_message(self._handle, message, len(message)):
                message.value = b"no open cache has this handle"
            raise LRQKError(status, message.value.decode())

    def _rows(self, Q, K, V):
        s = dict(self._sizes)
        rows = (_shaped(Q, "Q", "H n d", s), _shaped(K, "K", "M n d", s), _shaped(V, "V", "M n d", s))
        return s["n"], rows

    def prefill(self, Q, K, V):
        """A whole prompt: Q (H, l, d), K and V (M, l, d)."""
        n, rows = self._rows(Q, K, V)
        self._call("prefill", n, *rows)

    def extend_prompt(self, Q, K, V, A_Q=None, A_K=None):
        """The next tokens of a prompt; with initialization "given", A_Q (H, n, r) and A_K (codes, n, r)."""
        n, rows = self._rows(Q, K, V)
        if A_Q is None and A_K is None:
            self._call("extend_prompt", n, *rows)
            return
        s = {**self._sizes, "n": n, "codes": self.info["codes"]}
        A_Q, A_K = _shaped(A_Q, "A_Q", "H n r", s), _shaped(A_K, "A_K", "codes n r", s)
        self._call("extend_prompt_from", n, *rows, A_Q, A_K)

    def complete_prompt(self):
        """Ends the prompt."""
        self._call("complete_prompt")

    def decode(self, q, k, v):
        """One step: q (H, d), k and v (M, d). Returns a Step."""
        s = dict(self._sizes)
        q, k, v = _shaped(q, "q", "H d", s), _shaped(k, "k", "M d", s), _shaped(v, "v", "M d", s)
        attention = _new(s["H"], s["d"])
        self._call("decode", q, k, v, attention)
        holders = self.info["holders"]
        hits, missed = _new(holders, kind=np.int64), _new(holders, kind=np.int64)
        gaps = _new(s["H"], kind=np.float64)
        self._call("hits", holders, hits, missed)
        self._call("gaps", s["H"], gaps)
        heads = range(s["H"])
        return Step(attention, self.selected, [self._tokens("attended", h) for h in heads], hits, missed, gaps)

    def _tokens(self, name, head):
        count = _i64()
        self._call(name, head, 0, None, ctypes.byref(count))
        tokens = _new(count.value, kind=np.int32)
        self._call(name, head, count.value, tokens, ctypes.byref(count))
        return tokens

    @property
    def selected(self):
        """By query head, the tokens chosen last, ascending."""
        return [self._tokens("selected", h) for h in range(self._sizes["H"])]

    @property
    def info(self):
        """lrqk_cache_info as a dict; `phase` is a word."""
        info = _Info()
        self._call("get_info", ctypes.byref(info), ctypes.sizeof(info))
        return {**_values(info), "phase": PHASES[info.phase]}

    def key_codes(self, index):
        """A_K (tokens, r) of code `index`: a query head, or with shared codes a key/value head."""
        codes = _new(self.info["tokens"], self._sizes["r"])
        self._call("key_codes", index, *codes.shape, codes)
        return codes

    def step_codes(self, index):
        """q_hat (group, r) and k_hat (r) of the last step."""
        q_hat = _new(self._sizes["H"] // self.info["codes"], self._sizes["r"])
        k_hat = _new(self._sizes["r"])
        self._call("step_codes", index, *q_hat.shape, q_hat, k_hat)
        return q_hat, k_hat

    def bases(self, index):
        """B_Q and B_K (r, d)."""
        B_Q, B_K = (_new(self._sizes["r"], self._sizes["d"]) for _ in range(2))
        self._call("bases", index, *B_Q.shape, B_Q, B_K)
        return B_Q, B_K

    def maps(self, index):
        """W_Q and W_K (d, r), with linear codes."""
        W_Q, W_K = (_new(self._sizes["d"], self._sizes["r"]) for _ in range(2))
        self._call("maps", index, *W_Q.shape, W_Q, W_K)
        return W_Q, W_K

    @property
    def bytes(self):
        """Bytes as a dict: resident, peak, host, full."""
        result = _Bytes()
        self._call("bytes", ctypes.byref(result), ctypes.sizeof(result))
        return _values(result)

    def ledger_total(self, direction=None, reason=None, step=None):
        """events, rows and bytes of one direction, reason and step; None lets all of them through."""
        def code(value, names, what):
            if value is None:
                return 0
            if value not in names.values():
                raise ValueError(f"{what} {value!r}; known are {', '.join(names.values())}")
            return next(number for number, name in names.items() if name == value)
        total = _Total()
        self._call(
            "ledger_total", code(direction, DIRECTIONS, "direction"), code(reason, REASONS, "reason"),
            -1 if step is None else step, ctypes.byref(total), ctypes.sizeof(total))
        return _values(total)

    @property
    def ledger(self):
        """Every copy, in order, as dicts."""
        count, size = _i64(), ctypes.sizeof(_Event)
        self._call("ledger_events", 0, 0, None, size, ctypes.byref(count))
        events = (_Event * max(count.value, 1))()
        self._call("ledger_events", 0, count.value, events, size, ctypes.byref(count))
        return [{**_values(e), "direction": DIRECTIONS[e.direction], "reason": REASONS[e.reason]}
                for e in events[:count.value]]
