// KV-Latent: heads become narrower by leaving channels out, everywhere the same ones.
//
// In:  W_Q, W_K, W_V and W_O of a layer; the ratios r_qk and r_vo, which divide the width d.
// Out: the same weights with every r-th row or column, and the frequencies for RoPE.
//
//     W_Q' , W_K'   rows 0, r_qk, 2 r_qk, ... of the whole matrix       d_qk = d / r_qk
//     W_V'          rows 0, r_vo, 2 r_vo, ...                            d_vo = d / r_vo
//     W_O'          columns 0, r_vo, 2 r_vo, ...
//     scores        q · k / √d_qk
//
// As r divides d, every head keeps its channels 0, r, 2r and so on, and head h of the answer meets
// the columns of W_O that it met before. RoPE's pairs (i, i + d/2) survive where r divides d/2: the
// pair i of a narrow head is the pair r i of the wide one.
//
// Frequencies. The pair r i turned by f_{r i} = θ^(−2 r i/d) = θ^(−2i/d_qk), which is what RoPE of
// width d_qk gives the pair i: `standard` frequencies keep every pair at its own, and with r = 1
// nothing changes at all. The code resamples: no pair from the fastest quarter, and the last
// quarter of the exponents twice as dense,
//
//     f = θ^(−a/d_qk)     a = d_qk/4, d_qk/4 + 2, ... below 3 d_qk/4, then
//                         3 d_qk/4, 3 d_qk/4 + 1, ... below d_qk
//
// d_qk/2 values where 4 divides d_qk, which is required. With r = 1 these are not RoPE's own: the
// model has to be trained on. The paper's equation 11 has another exponent in its second half, as
// a digest of it says, which would jump; the code is followed here.
//
// Source: arXiv 2507.11273; ShiLuohe/KV-Latent at 5adc336, modelcodes/modeling_llama3.py
// (LlamaAttentionMLA.__init__, _init_rope). The next file is RotaryScaling.swift (Transformers).

package import Tensors

/// Every `ratio`-th row of a weight, (m, D) to (m / ratio, D).
package func everyRow<E: Sendable>(_ ratio: Int, of weight: Tensor<E>) -> Tensor<E> {
  weight.gather(rows: Array(stride(from: 0, to: weight.rows, by: ratio)))
}

/// Every `ratio`-th column of a weight, (D, m) to (D, m / ratio).
package func everyColumn<E: Sendable>(_ ratio: Int, of weight: Tensor<E>) -> Tensor<E> {
  weight.gather(columns: Array(stride(from: 0, to: weight.columns, by: ratio)))
}
