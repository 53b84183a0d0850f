/* lrqk.h: LRQK on the CPU, from C and from every language that calls C.
 *
 * In:  tensors as a pointer and their sizes, row-major, the last axis contiguous; float is IEEE
 *      binary32.
 * Out: a status; results in arrays that the caller owns.
 *
 * The header has two parts. KERNELS: one plain function for each stage of the method, so that the
 * author of a GPU kernel can compare stage by stage. CACHE: the whole method behind a handle: a
 * prompt, then one token after another, and the ledger of everything that was copied. "Stage"
 * counts the parts of the method, from 0 to 8; "step" is a decode step. Docs/c-library.md says how
 * to build and link; Notebooks/lrqk.py is the same interface for Python.
 *
 * Letters
 *   l tokens   d head width   r rank   c candidates   k selected tokens   w recent tokens
 *   n attended rows   m missed rows   S slots of a holder of rows
 *   H query heads   M key/value heads   G = H / M   T steps
 *   Query head h belongs to key/value head h / G. A holder of rows is a query head or a key/value
 *   head, as the options say. Queries and keys are those AFTER the rotary embedding, except in
 *   lrqk_rope itself.
 *
 * Rules
 *   Sizes      are at least 1 unless a comment says otherwise. A size that is too small, too large,
 *              or that does not fit another one is LRQK_ERROR_SIZE. So are products that overflow.
 *              The limits are 4096 for widths (d, r), 65536 for heads and 2^31 - 1 for everything
 *              else. One thing cannot be checked here: that an array is as long as its sizes say.
 *   Pointers   must not be NULL unless a comment says "or NULL", and are aligned for their type.
 *   Aliases    Every input is read before any output is written, so an output may be the very array
 *              of an input. Two outputs must not overlap. (lrqk_gather works in place and says
 *              more.)
 *   NaN, inf   in a floating input is LRQK_ERROR_NON_FINITE. Numbers that overflow on the way, and
 *              systems that are singular, are LRQK_ERROR_BREAKDOWN. Both are always reported.
 *   Failure    A function that does not return LRQK_OK has written no output except its message.
 *   Messages   One line: what, where, what to do. Plain functions write it into `message`, which
 *              may be NULL, with a final NUL and cut at `message_size` bytes; "" on success. Calls
 *              on a cache keep it with the cache: lrqk_cache_message.
 *   Threads    Every function may be called from any number of threads at once. Calls on one cache
 *              run one after another. A caller sees no global state: no setting, no last error, no
 *              seed. The process shares two things. One is a table of open caches behind a lock: a
 *              handle is a number, not an address, so a closed or invented handle gets a status
 *              instead of a crash. The other is OpenBLAS, which the library sets to one thread;
 *              heads run concurrently instead.
 *   Bits       The same inputs give the same results on every machine and for every number of
 *              threads: all sums are in reference order, fixed chains of fused multiply-adds. There
 *              are two exceptions: the closed-form maps, marked [LAPACK], whose last bits depend on
 *              the processor, and LRQK_ARITHMETIC_LIBRARY.
 */
#ifndef LRQK_H
#define LRQK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ---------------------------------------------------------------------------------- */

typedef enum lrqk_status {
  LRQK_OK = 0,
  LRQK_ERROR_NULL = 1,       /* a pointer is NULL that must not be, or is not aligned */
  LRQK_ERROR_SIZE = 2,       /* a size out of range, or sizes that do not fit together */
  LRQK_ERROR_PARAMETER = 3,  /* a choice or a value that makes no sense */
  LRQK_ERROR_NON_FINITE = 4, /* NaN or infinity in an input */
  LRQK_ERROR_BREAKDOWN = 5,  /* a singular system, or numbers that overflowed */
  LRQK_ERROR_MEMORY = 6,     /* the device's capacity, or the machine's memory, does not suffice */
  LRQK_ERROR_CLOSED = 7,     /* no open cache has this handle */
  LRQK_ERROR_STATE = 8,      /* not now: decode before the prompt's end, or a cache that broke */
  LRQK_ERROR_INTERNAL = 9    /* a mistake in this library; please report the message */
} lrqk_status;

/* "ok", "null pointer", ...; "unknown status" for other numbers. Never NULL; not to be freed. */
const char *lrqk_status_name(lrqk_status status);

/* The version of this header, and of the library that runs: "0.1.0". Not to be freed. */
#define LRQK_VERSION "0.1.0"
const char *lrqk_version(void);

/* Which kernels OpenBLAS runs in this process: "OpenBLAS 0.3.21, kernels of core type Haswell".
 * On a processor that it does not know OpenBLAS silently takes its oldest kernels, at a fifth of
 * the speed. The line then also names the setting to make before the process starts: OpenBLAS
 * chooses when it is loaded, and a library cannot change that. Never NULL; not to be freed. */
const char *lrqk_openblas(void);

/* ---- Kernels --------------------------------------------------------------------------------- */

/* Stage 2, prefill: one sweep over all rows (Gauss-Seidel). Here ' is the transpose.
 *
 *   B_Q = (A_Q'A_Q)^-1 A_Q'Q    B_K = (A_K'A_K)^-1 A_K'K
 *   W_Q' = (A_K'A_K + lambda_q B_Q B_Q')^-1 (A_K'K + lambda_q B_Q)             A_Q_new = Q W_Q
 *   W_K' = (A_Q'A_Q + lambda_k B_K B_K')^-1 (A_Q'Q + lambda_k B_K) of A_Q_new  A_K_new = K W_K
 *
 * In: Q (l_q, d), K (l_k, d), A_Q (l_q, r), A_K (l_k, r); r <= d; l_q is l_k, or G times it where
 * the queries of a group are stacked. Out: B_Q, B_K (r, d) of the codes that came in; W_Q, W_K
 * (d, r); A_Q_new (l_q, r), A_K_new (l_k, r). Products over rows are added in blocks of 512: chains
 * in float inside a block, double between blocks. BREAKDOWN: A_Q'A_Q or A_K'A_K has less than full
 * rank. */
lrqk_status lrqk_sweep_rowwise(
    int64_t l_q, int64_t l_k, int64_t d, int64_t r, const float *Q, const float *K,
    const float *A_Q, const float *A_K, double lambda_q, double lambda_k, float *B_Q, float *B_K,
    float *W_Q, float *W_K, float *A_Q_new, float *A_K_new, char *message, size_t message_size);

/* Stage 2a, the same sweep in d by d space (the Gram identity): with A_Q = Q W_Q and A_K = K W_K,
 * A'A = W'GW and A'X = W'G, so the Gram matrices G stand for the rows.
 *
 * In: G_Q = Q'Q and G_K = K'K (d, d), W_Q and W_K (d, r); r <= d. Out: B_Q, B_K (r, d), W_Q_new,
 * W_K_new (d, r). All arithmetic is in double; inputs are widened, results rounded once. */
lrqk_status lrqk_sweep_gram(
    int64_t d, int64_t r, const float *G_Q, const float *G_K, const float *W_Q, const float *W_K,
    double lambda_q, double lambda_k, float *B_Q, float *B_K, float *W_Q_new, float *W_K_new,
    char *message, size_t message_size);

/* Stages 3 and 4, decode: codes of a new token, then the released update of the bases.
 *
 * In: q (G, d) and k (d) of the token; B_Q, B_K (r, d); for each of the G query heads the codes and
 * keys of its selected rows, A_Omega (G, n, r) and K_Omega (G, n, d); r <= d. The solver alternates
 * exactly `iterations` times, at least once. Out: q_hat (G, r), k_hat (r); B_Q_new, B_K_new (r, d),
 * moved by one gradient step with exact line search. G = 1 is the released solver; G > 1 has one
 * k_hat for the group. */
lrqk_status lrqk_decode_codes(
    int64_t G, int64_t n, int64_t d, int64_t r, const float *q, const float *k, const float *B_Q,
    const float *B_K, const float *A_Omega, const float *K_Omega, int64_t iterations,
    double lambda_1, double lambda_2, float *q_hat, float *k_hat, float *B_Q_new, float *B_K_new,
    char *message, size_t message_size);

/* Stage 5: scores (H, c) = q_hat (H, r) times A_K (c, r) transposed; each is one chain over r. */
lrqk_status lrqk_proxy_scores(
    int64_t H, int64_t c, int64_t r, const float *A_K, const float *q_hat, float *scores,
    char *message, size_t message_size);

/* Stage 6: the k largest of each head's scores (H, c). The larger score goes first, then the lower
 * index; -0 equals +0.
 *
 * k <= c. Scores may be infinite, not NaN. Out: indices (H, k), ascending; gaps (H) or NULL, the
 * score of place k minus that of place k + 1: infinite for k = c, 0 where only the rule for ties
 * decided. */
lrqk_status lrqk_top_k(
    int64_t H, int64_t c, int64_t k, const float *scores, int32_t *indices, float *gaps,
    char *message, size_t message_size);

/* Stage 7: hit and miss. What has to move so that the needed tokens lie in a holder's slots.
 *
 * In: resident (S), the token in each slot or -1, no token twice; needed (k), ascending, k <= S. A
 * needed token that is resident keeps its slot. Slots of tokens no longer needed become free.
 * Missed tokens, ascending, take the lowest free slots. Out: missed_count, m; missed and slots (k
 * each): the first m entries are the missed tokens, ascending, and their slots, the rest -1;
 * new_resident (S), -1 where a slot is free. */
lrqk_status lrqk_plan(
    int64_t S, int64_t k, const int32_t *resident, const int32_t *needed, int64_t *missed_count,
    int32_t *missed, int32_t *slots, int32_t *new_resident, char *message, size_t message_size);

/* Stage 7: copies rows. Row tokens[i] of K_host and V_host (l, d) goes to row slots[i] of K_dev and
 * V_dev (S, d), for i < m; m may be 0. Rows are copied bit for bit, NaN included, and the other
 * slots keep what they hold. No slot twice. The arrays of the device must overlap neither each
 * other nor those of the host. */
lrqk_status lrqk_gather(
    int64_t l, int64_t d, int64_t m, int64_t S, const float *K_host, const float *V_host,
    const int32_t *tokens, const int32_t *slots, float *K_dev, float *V_dev, char *message,
    size_t message_size);

/* Stage 8: out (H, d) = softmax(q K^T / sqrt(d)) V over the rows that each head names.
 *
 * In: q (H, d); K, V (M, S, d), the slots of each key/value head; slots (H, n), in the order in
 * which the sums run (the method has ascending tokens). M divides H. Only rows that a head names
 * are read. */
lrqk_status lrqk_sparse_attention(
    int64_t H, int64_t M, int64_t S, int64_t n, int64_t d, const float *q, const float *K,
    const float *V, const int32_t *slots, float *out, char *message, size_t message_size);

/* The same over all rows: q (H, d), K and V (M, l, d), out (H, d). */
lrqk_status lrqk_dense_attention(
    int64_t H, int64_t M, int64_t l, int64_t d, const float *q, const float *K, const float *V,
    float *out, char *message, size_t message_size);

/* Rotary embedding: element pairs (i, i + d/2) are rotated by positions[t] base^(-2i/d). x, y
 * (n, H, d), positions (n) from 0; d even; base >= 1. Angles are products in float. Their cosines
 * and sines are the C library's in double, rounded: last bits may differ between libms. */
lrqk_status lrqk_rope(
    int64_t n, int64_t H, int64_t d, double base, const float *x, const int32_t *positions,
    float *y, char *message, size_t message_size);

/* y = weight x / sqrt(mean x^2 + eps), row by row: x, y (n, D), weight (D), eps > 0. */
lrqk_status lrqk_rms_norm(
    int64_t n, int64_t D, const float *x, const float *weight, double eps, float *y, char *message,
    size_t message_size);

/* LRKV, decoding over factors: head h has keys K + C_K[:, h] U_K[h] and values
 * V + C_V[:, h] U_V[h], which are never built. q (H, d); K, V (l, d), shared; C_K, C_V (l, H, r);
 * U_K, U_V (H, r, d); out (H, d). Positions are the caller's: q and K are rotated already, or
 * positions are not used. */
lrqk_status lrqk_lrkv_attention(
    int64_t H, int64_t l, int64_t d, int64_t r, const float *q, const float *K, const float *V,
    const float *C_K, const float *C_V, const float *U_K, const float *U_V, float *out,
    char *message, size_t message_size);

/* ---- Choices of a cache ---------------------------------------------------------------------- */

/* A choice is an int32_t that holds one of these numbers. 0 means "has no effect": a field that
 * another choice leaves without effect must be 0; anything else is LRQK_ERROR_PARAMETER. */

typedef enum lrqk_preset {
  LRQK_PRESET_PAPER = 1,      /* the released method, its quirks included */
  LRQK_PRESET_RECOMMENDED = 2 /* closed-form codes, linear maps, codes and rows once a group */
} lrqk_preset;

typedef enum lrqk_solver {
  LRQK_SOLVER_ROWWISE = 1, /* sweeps over all rows */
  LRQK_SOLVER_GRAM = 2,    /* the same sweeps in d by d space */
  LRQK_SOLVER_SPECTRAL = 3 /* no sweeps: the closed form [LAPACK] */
} lrqk_solver;

/* Where sweeps start; 0 with LRQK_SOLVER_SPECTRAL. */
typedef enum lrqk_initialization {
  LRQK_INITIALIZATION_GAUSSIAN = 1,           /* standard normals from `seed` */
  LRQK_INITIALIZATION_TOP_COLUMNS = 2,        /* the r largest columns of Q, and of K */
  LRQK_INITIALIZATION_SHARED_TOP_COLUMNS = 3, /* one set of columns for both */
  LRQK_INITIALIZATION_SPECTRAL = 4,           /* the closed form [LAPACK] */
  LRQK_INITIALIZATION_GIVEN = 5               /* codes that come with the prompt */
} lrqk_initialization;

/* Which A_Q the update of A_K sees; 0 with LRQK_SOLVER_SPECTRAL. */
typedef enum lrqk_weighted_update {
  LRQK_WEIGHTED_UPDATE_GAUSS_SEIDEL = 1, /* the new one */
  LRQK_WEIGHTED_UPDATE_JACOBI = 2        /* the old one, as released for weights other than 1 */
} lrqk_weighted_update;

typedef enum lrqk_code_map {
  LRQK_CODE_MAP_ALTERNATING = 1, /* the released decode solver */
  LRQK_CODE_MAP_LINEAR = 2       /* q_hat = q W_Q, k_hat = k W_K */
} lrqk_code_map;

/* What a step does to B_Q and B_K; 0 with LRQK_CODE_MAP_LINEAR. */
typedef enum lrqk_basis_update {
  LRQK_BASIS_UPDATE_PROJECTION = 1, /* as released */
  LRQK_BASIS_UPDATE_DAMPED = 2,     /* that step times `damping` */
  LRQK_BASIS_UPDATE_FROZEN = 3      /* nothing */
} lrqk_basis_update;

/* Which heads have codes, or rows, of their own. */
typedef enum lrqk_sharing {
  LRQK_PER_QUERY_HEAD = 1,    /* every query head, as released */
  LRQK_PER_KEY_VALUE_HEAD = 2 /* the G query heads of a group share */
} lrqk_sharing;

typedef enum lrqk_candidates {
  LRQK_CANDIDATES_ALL = 1,     /* every token older than the recent ones */
  LRQK_CANDIDATES_RELEASED = 2 /* all of them but the newest */
} lrqk_candidates;

typedef enum lrqk_reuse {
  LRQK_REUSE_HIT_MISS = 1, /* only missed rows move */
  LRQK_REUSE_NONE = 2      /* all selected rows move at every step */
} lrqk_reuse;

typedef enum lrqk_support {
  LRQK_SUPPORT_OWN = 1,  /* a query head attends to the k tokens that it chose */
  LRQK_SUPPORT_GROUP = 2 /* to all that its group chose, up to H/M k;
                            needs transfers per key/value head */
} lrqk_support;

typedef enum lrqk_arithmetic {
  LRQK_ARITHMETIC_REFERENCE = 1, /* the same bits everywhere */
  LRQK_ARITHMETIC_LIBRARY = 2    /* OpenBLAS, in prefill and in a map refresh */
} lrqk_arithmetic;

typedef enum lrqk_breakdown {
  LRQK_BREAKDOWN_STOP = 1,   /* a singular system or an overflow is an error */
  LRQK_BREAKDOWN_PROCEED = 2 /* go on with the result, NaN included, as the released code does */
} lrqk_breakdown;

/* All options of a cache. lrqk_options_init fills in a preset; the sizes are yours. */
typedef struct lrqk_options {
  int64_t query_heads;       /* H, of all sequences of a batch together */
  int64_t key_value_heads;   /* M, which divides H */
  int64_t width;             /* d */
  int64_t rank;              /* r <= d */
  int64_t selected;          /* k */
  int64_t recent;            /* w */
  int64_t window;            /* tokens that a token sees, itself included; 0: all */
  int64_t layer;             /* the number that ledger and messages show, from 0 */
  int64_t device_capacity;   /* bytes; 0: no limit */
  int64_t prefill_iterations; /* sweeps; 0 with LRQK_SOLVER_SPECTRAL */
  int64_t decode_iterations;  /* alternations of a step; 0 with LRQK_CODE_MAP_LINEAR */
  int64_t map_refresh;        /* new maps every so many steps [LAPACK]; 0: never; needs LINEAR */
  uint64_t seed;              /* of LRQK_INITIALIZATION_GAUSSIAN */
  double prefill_tolerance;   /* sweeps end below this mean squared change of the codes; or 0 */
  double decode_tolerance;    /* the same for k_hat in a step */
  double lambda_q;            /* weights of sweeps; 0 with LRQK_SOLVER_SPECTRAL */
  double lambda_k;
  double lambda_1; /* weights of the decode solver; 0 with LRQK_CODE_MAP_LINEAR */
  double lambda_2;
  double damping; /* of LRQK_BASIS_UPDATE_DAMPED */
  double ridge;   /* added to diagonals, as a multiple of their mean; 0: none */
  int32_t solver;          /* lrqk_solver */
  int32_t initialization;  /* lrqk_initialization */
  int32_t weighted_update; /* lrqk_weighted_update */
  int32_t arithmetic;      /* lrqk_arithmetic */
  int32_t code_map;        /* lrqk_code_map */
  int32_t basis_update;    /* lrqk_basis_update */
  int32_t code_sharing;    /* lrqk_sharing */
  int32_t transfers;       /* lrqk_sharing */
  int32_t candidates;      /* lrqk_candidates */
  int32_t reuse;           /* lrqk_reuse */
  int32_t breakdown;       /* lrqk_breakdown */
  int32_t support;         /* lrqk_support */
} lrqk_options;

/* Fills in the choices of a preset; sizes, window, layer and capacity become 0. `options_size` is
 * sizeof(lrqk_options): another number is LRQK_ERROR_SIZE, a sign of an old header. */
lrqk_status lrqk_options_init(lrqk_options *options, size_t options_size, lrqk_preset preset);

/* ---- Cache: the whole method for one layer --------------------------------------------------- */

/* A handle, never 0. Every cache gets a new one. */
typedef uint64_t lrqk_cache;

/* Opens a cache. `message` is that of plain functions, because no cache could keep it yet. */
lrqk_status lrqk_cache_create(
    const lrqk_options *options, lrqk_cache *cache, char *message, size_t message_size);

/* Closes a cache, after a call that runs in another thread has ended. From then on the handle is
 * CLOSED. */
lrqk_status lrqk_cache_free(lrqk_cache cache);

/* The message of the last call on this cache that failed; "" if none did. */
lrqk_status lrqk_cache_message(lrqk_cache cache, char *message, size_t message_size);

/* A whole prompt of l tokens: Q (H, l, d), K and V (M, l, d). Factorises it, offloads rows to the
 * host, selects the first set. The same as lrqk_cache_extend_prompt and lrqk_cache_complete_prompt.
 * An error from an argument (NULL, SIZE, NON_FINITE) leaves the cache as it was. After any other
 * error it is broken: only its ledger, bytes and message can still be read. */
lrqk_status lrqk_cache_prefill(
    lrqk_cache cache, int64_t l, const float *Q, const float *K, const float *V);

/* The next n tokens of the prompt. Chunks of any size give the same bits, except with
 * LRQK_ARITHMETIC_LIBRARY. */
lrqk_status lrqk_cache_extend_prompt(
    lrqk_cache cache, int64_t n, const float *Q, const float *K, const float *V);

/* The same with LRQK_INITIALIZATION_GIVEN: codes to start from, A_Q (H, n, r) and A_K (codes, n,
 * r), where `codes` is H or, with shared codes, M. */
lrqk_status lrqk_cache_extend_prompt_from(
    lrqk_cache cache, int64_t n, const float *Q, const float *K, const float *V, const float *A_Q,
    const float *A_K);

/* Ends the prompt, which may have any length, also 0. With at least max(k, r) tokens it is
 * factorised now; a shorter one is factorised by the decode step that reaches that length, and
 * until then attention is full. */
lrqk_status lrqk_cache_complete_prompt(lrqk_cache cache);

/* One decode step, stages 3 to 8. In: q (H, d), k and v (M, d) of the new token. Out: attention
 * (H, d). */
lrqk_status lrqk_cache_decode(
    lrqk_cache cache, const float *q, const float *k, const float *v, float *attention);

/* Where a cache stands. */
typedef enum lrqk_phase {
  LRQK_PHASE_PROMPT = 1,     /* takes chunks of the prompt */
  LRQK_PHASE_COLLECTING = 2, /* fewer than k or r tokens: no codes yet, full attention */
  LRQK_PHASE_DENSE = 3,      /* up to k + w tokens: codes, and full attention */
  LRQK_PHASE_SPARSE = 4,     /* attention over k selected and w recent rows */
  LRQK_PHASE_BROKEN = 5      /* a call failed half way; only ledger, bytes, message can be read */
} lrqk_phase;

typedef struct lrqk_cache_info {
  int64_t query_heads;     /* H */
  int64_t key_value_heads; /* M */
  int64_t width;           /* d */
  int64_t rank;            /* r */
  int64_t codes;           /* heads that have codes of their own: H or M */
  int64_t holders;         /* heads that have rows of their own: H or M */
  int64_t tokens;          /* l so far */
  int64_t steps;           /* decode steps so far */
  int64_t recent_first;    /* the recent tokens, always on the device; none while collecting */
  int64_t recent_count;
  double condition; /* worst condition estimate among the systems solved so far; 1 where none was */
  int32_t pivoted;  /* 1 when a system needed the pivoted fallback */
  int32_t phase;    /* lrqk_phase */
} lrqk_cache_info;

/* `info_size` is sizeof(lrqk_cache_info). */
lrqk_status lrqk_cache_get_info(lrqk_cache cache, lrqk_cache_info *info, size_t info_size);

/* Tokens that query head `head` selected in the last step (or after the prompt), ascending; while
 * collecting, all tokens. `count` gets their number. With tokens NULL and capacity 0 that is all;
 * otherwise a capacity below the number is LRQK_ERROR_SIZE. */
lrqk_status lrqk_cache_selected(
    lrqk_cache cache, int64_t head, int64_t capacity, int32_t *tokens, int64_t *count);

/* Tokens that it attended to in the last step, ascending: selected and recent ones in sight. STATE
 * before the first step. */
lrqk_status lrqk_cache_attended(
    lrqk_cache cache, int64_t head, int64_t capacity, int32_t *tokens, int64_t *count);

/* Of the last step: rows of each holder that lay on the device, and rows that came from the host.
 * hits and missed have `holders` elements, the number in lrqk_cache_info. STATE before the first
 * step. */
lrqk_status lrqk_cache_hits(lrqk_cache cache, int64_t holders, int64_t *hits, int64_t *missed);

/* Of the last step: the score of place k minus that of place k + 1, gaps (H); infinite where every
 * candidate was taken. STATE before the first step. */
lrqk_status lrqk_cache_gaps(lrqk_cache cache, int64_t query_heads, double *gaps);

/* A_K (tokens, r) of code `index`. STATE while collecting. */
lrqk_status lrqk_cache_key_codes(
    lrqk_cache cache, int64_t index, int64_t tokens, int64_t rank, float *A_K);

/* q_hat (group, r) and k_hat (r) of code `index` in the last step, where group is H / codes. STATE
 * before the first step and after a step without codes. */
lrqk_status lrqk_cache_step_codes(
    lrqk_cache cache, int64_t index, int64_t group, int64_t rank, float *q_hat, float *k_hat);

/* B_Q and B_K (r, d) of code `index` as they are now; with LRQK_CODE_MAP_LINEAR the bases of the
 * prompt. STATE while collecting. */
lrqk_status lrqk_cache_bases(
    lrqk_cache cache, int64_t index, int64_t rank, int64_t width, float *B_Q, float *B_K);

/* W_Q and W_K (d, r) of code `index` as they are now. STATE without LRQK_CODE_MAP_LINEAR and while
 * collecting. */
lrqk_status lrqk_cache_maps(
    lrqk_cache cache, int64_t index, int64_t width, int64_t rank, float *W_Q, float *W_K);

typedef struct lrqk_bytes {
  int64_t resident; /* on the device now, measured from its buffers */
  int64_t peak;     /* the largest number so far */
  int64_t host;     /* keys and values on the host */
  int64_t full;     /* what all keys and values in sight take: full attention's cache */
} lrqk_bytes;

lrqk_status lrqk_cache_bytes(lrqk_cache cache, lrqk_bytes *bytes, size_t bytes_size);

/* ---- Ledger: every copy between host and device ---------------------------------------------- */

typedef enum lrqk_direction {
  LRQK_ANY_DIRECTION = 0,
  LRQK_HOST_TO_DEVICE = 1,
  LRQK_DEVICE_TO_HOST = 2
} lrqk_direction;

typedef enum lrqk_reason {
  LRQK_ANY_REASON = 0,
  LRQK_REASON_PROMPT_OFFLOAD = 1, /* the prompt's rows go to the host */
  LRQK_REASON_RING_FLUSH = 2,     /* w new rows go to the host in one burst */
  LRQK_REASON_MISS = 3,           /* selected rows that did not lie on the device */
  LRQK_REASON_RELOAD = 4          /* rows copied whether or not they lay there; keys for new maps */
} lrqk_reason;

/* "host_to_device", "prompt-offload", ...; "unknown" for other numbers. Never NULL; not to be
 * freed. */
const char *lrqk_direction_name(int32_t direction);
const char *lrqk_reason_name(int32_t reason);

typedef struct lrqk_event {
  int64_t step;      /* 0: the prompt */
  int64_t layer;     /* as in the options */
  int64_t head;      /* the holder of rows; for rows that go to the host the key/value head */
  int64_t rows;      /* a row is a token's key and value; with new maps its key alone */
  int64_t bytes;
  int32_t direction; /* lrqk_direction */
  int32_t reason;    /* lrqk_reason */
} lrqk_event;

typedef struct lrqk_total {
  int64_t events;
  int64_t rows;
  int64_t bytes;
} lrqk_total;

/* The sum of the events of a direction, a reason and a step; 0, 0 and -1 stand for all of them. */
lrqk_status lrqk_cache_ledger_total(
    lrqk_cache cache, int32_t direction, int32_t reason, int64_t step, lrqk_total *total,
    size_t total_size);

/* Events from `first` on, at most `capacity` of them, in the order in which they happened; `count`
 * gets the number of all. events may be NULL when capacity is 0. */
lrqk_status lrqk_cache_ledger_events(
    lrqk_cache cache, int64_t first, int64_t capacity, lrqk_event *events, size_t event_size,
    int64_t *count);

/* ---- A whole answer in one call -------------------------------------------------------------- */

/* The decode-step kernel: a prompt of l tokens, then T steps, with a cache that lives for this
 * call.
 *
 * In: Q (H, l + T, d), K and V (M, l + T, d): prompt first. Out, step by step: selected (T, H, n),
 * ascending, -1 behind the last where fewer were chosen, with n = k, or H/M k with
 * LRQK_SUPPORT_GROUP; missed (T, holders), rows that came from the host, where holders is H or,
 * with transfers per key/value head, M; attention (T, H, d). Not with LRQK_INITIALIZATION_GIVEN.
 * While collecting, a head's row of `selected` is all -1: every token is attended to. */
lrqk_status lrqk_decode_steps(
    const lrqk_options *options, int64_t l, int64_t T, const float *Q, const float *K,
    const float *V, int32_t *selected, int64_t *missed, float *attention, char *message,
    size_t message_size);

#ifdef __cplusplus
}
#endif
#endif
