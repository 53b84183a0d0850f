// What the device keeps for one group of heads that shares codes.
//
// In:  the factorisation of the prompt, then q (G, d) and k (1, d) of each new token.
// Out: their codes q_hat (G, r) and k_hat (1, r); A_K grows by one row.
//
// A group is one query head (`.perQueryHead`: G = 1) or all query heads of a key/value head
// (`.perKeyValueHead`). Held on the device: A_K; then either the bases B_Q, B_K (alternating codes)
// or the maps W_Q, W_K (linear codes), and with a map refresh the two Gram matrices.

import Tensors
import TieredMemory

/// Codes, bases or maps of one group, on the device.
struct CodeGroup<E: Scalar>: Sendable {
  /// A_K, (l, r).
  var codes: CodeStore<E>
  /// B_Q and B_K, (r, d), or W_Q and W_K, (d, r).
  private(set) var queryMatrix: DeviceBuffer<E>
  private(set) var keyMatrix: DeviceBuffer<E>
  private let matrixShape: [Int]
  /// QᵀQ and KᵀK, (d, d) each, over all tokens so far; only with a map refresh.
  private var grams: (queries: DeviceBuffer<Double>, keys: DeviceBuffer<Double>)?
  /// Largest finite |A_K| so far, the prompt's codes included; a map refresh starts anew.
  private(set) var largestCode: Double

  init(
    _ prompt: PromptCodes<E>, _ parameters: Parameters, label: String,
    on device: inout DeviceTier
  ) throws {
    let factors = prompt.factorization
    codes = try CodeStore(factors.keyCodes, label: "A_K of \(label)", on: &device)
    func hold<T: Scalar>(_ name: String, _ tensor: Tensor<T>) throws -> DeviceBuffer<T> {
      try device.allocate("\(name) of \(label)", holding: tensor.elements)
    }
    if parameters.hasLinearCodes {
      guard let W_Q = factors.queryMap, let W_K = factors.keyMap else {
        throw LRQKError.parameter("linear codes need the maps of at least one sweep")
      }
      (queryMatrix, keyMatrix) = (try hold("W_Q", W_Q), try hold("W_K", W_K))
      matrixShape = W_Q.shape
    } else {
      (queryMatrix, keyMatrix) = (
        try hold("B_Q", factors.queryBasis), try hold("B_K", factors.keyBasis)
      )
      matrixShape = factors.queryBasis.shape
    }
    if let queryGram = prompt.queryGram, let keyGram = prompt.keyGram {
      grams = (try hold("QᵀQ", queryGram), try hold("KᵀK", keyGram))
    }
    largestCode = largestMagnitude(factors.keyCodes.elements)
  }

  /// B_Q, or W_Q.
  var queryTensor: Tensor<E> { Tensor(shape: matrixShape, elements: queryMatrix.elements) }
  /// B_K, or W_K.
  var keyTensor: Tensor<E> { Tensor(shape: matrixShape, elements: keyMatrix.elements) }

  /// q_hat = q W_Q and k_hat = k W_K.
  func linearCodes(query: Tensor<E>, key: Tensor<E>) -> (query: Tensor<E>, key: Tensor<E>) {
    (matmul(query, queryTensor, in: .reference), matmul(key, keyTensor, in: .reference))
  }

  /// Both bases after the new token's codes (see BasisUpdate.swift).
  mutating func updateBases(
    _ update: BasisUpdate, query: Tensor<E>, key: Tensor<E>, codes: DecodeSolver<E>
  ) {
    let factor = update.factor
    if factor == 0 { return }
    queryMatrix.elements =
      updatedBasis(queryTensor, codes: codes.queryCodes, rows: query, factor: factor).elements
    keyMatrix.elements =
      updatedBasis(keyTensor, codes: codes.keyCode, rows: key, factor: factor).elements
  }

  /// Appends k_hat as the new row of A_K; NaN and infinity throw, unless a breakdown is to proceed.
  mutating func append(_ k_hat: [E], _ breakdown: Breakdown, _ place: Place) throws(LRQKError) {
    if !k_hat.allSatisfy(\.isFinite) {
      if breakdown == .stop {
        throw .overflow(what: "k_hat", largestBefore: largestCode, place)
      }
    } else {
      largestCode = max(largestCode, largestMagnitude(k_hat))
    }
    codes.append(k_hat)
  }

  // MARK: Refreshing the maps

  /// G += xᵀx for the new token's queries and key.
  mutating func addToGrams(query: Tensor<E>, key: Tensor<E>) {
    guard var sums = grams else { return }
    func add(_ rows: Tensor<E>, to gram: inout DeviceBuffer<Double>) {
      let new = rows.converted(to: Double.self).gram(in: .reference)
      let old = Tensor(shape: new.shape, elements: gram.elements)
      gram.elements = (old + new).elements
    }
    add(query, to: &sums.queries)
    add(key, to: &sums.keys)
    grams = sums
  }

  /// New maps from the Gram matrices, and every token coded anew: A_K = K W_K.
  ///
  /// `keys` are all tokens' exact keys, (l, d): most of them had to come from the host for this. The
  /// group has `queryHeads` queries a token.
  mutating func refresh(
    keys: Tensor<E>, queryHeads: Int, _ parameters: Parameters, _ place: Place
  ) throws(LRQKError) {
    guard let grams else { return }
    let d = keys.columns
    func gram(_ sum: DeviceBuffer<Double>, rows: Int) -> SummedGram {
      SummedGram(Tensor(shape: [d, d], elements: sum.elements), rows: rows, of: E.self)
    }
    let maps = try spectralMaps(
      queryGram: gram(grams.queries, rows: queryHeads * keys.rows),
      keyGram: gram(grams.keys, rows: keys.rows), rank: parameters.rank, place)
    let W_K: Tensor<E> = maps.keys.converted()
    queryMatrix.elements = maps.queries.converted(to: E.self).elements
    keyMatrix.elements = W_K.elements
    codes.replaceAll(matmul(keys, W_K, in: parameters.arithmetic))
    largestCode = largestMagnitude(codes.allRows.elements)
  }
}

@specialized(where E == Float)
@specialized(where E == Double)
func largestMagnitude<E: Scalar>(_ elements: [E]) -> Double {
  var largest = E.zero
  for x in elements where abs(x) > largest { largest = abs(x) }
  return Double(largest)
}
