// Heads made of shared and own parts: what LRKV, MLA and joined heads need, and their ways back.
//
// In:  rows whose columns are heads side by side, (n, H a).
// Out: 1. y_h = x_h B_hᵀ, every head through a matrix of its own: (n, H r) to (n, H d)
//      2. y_h = x_h + s, a shared part added to every head: (n, H d) and (n, d)
//      3. y_h = [x_h, s], a shared part behind every head: (n, H a) and (n, b) to (n, H (a + b))
//      4. some columns of every head: (n, H a) to (n, H b)
//      5. y_h = [x_h, z_h]: (n, H a) and (n, H b) to (n, H (a + b))
//      6. y_h = c x_h Ψ_g, g = h / G, a basis for every G heads: (n, H a) to (n, H b)
//
// Back, 2, 3 and 6 sum over the heads what the shared part gets from each.

import Tensors

extension Tape {
  /// 1. Head h of x times B_hᵀ; B is (H, d, r).
  package func headLinear(_ x: Variable<E>, _ B: Variable<E>, heads H: Int) -> Variable<E> {
    let (n, r, d) = (x.value.rows, B.value.columns, B.value.rows)
    precondition(
      x.value.columns == H * r && B.value.shape == [H, d, r],
      "heads \(x.value.shape), \(B.value.shape)")
    let (X, factors) = (x.value.elements, B.value.elements)
    var y: [E] = zeros(n * H * d)
    do {
      var whole = y.mutableSpan
      for h in 0..<H {
        E.libraryMatmul(
          m: n, n: d, k: r, a: X.span.extracting((h * r)...), lda: H * r, transposeA: false,
          b: factors.span.extracting((h * d * r)...), ldb: r, transposeB: true, into: &whole,
          from: h * d, ldc: H * d, accumulate: false)
      }
    }
    return record(Tensor(shape: [n, H * d], elements: y)) { dy in
      let g = dy.elements
      x.accumulate { dx in
        for h in 0..<H {
          E.libraryMatmul(
            m: n, n: r, k: d, a: g.span.extracting((h * d)...), lda: H * d, transposeA: false,
            b: factors.span.extracting((h * d * r)...), ldb: r, transposeB: false, into: &dx,
            from: h * r, ldc: H * r, accumulate: true)
        }
      }
      B.accumulate { dB in
        for h in 0..<H {
          E.libraryMatmul(
            m: d, n: r, k: n, a: g.span.extracting((h * d)...), lda: H * d, transposeA: true,
            b: X.span.extracting((h * r)...), ldb: H * r, transposeB: false, into: &dB,
            from: h * d * r, ldc: r, accumulate: true)
        }
      }
    }
  }

  /// 2. Head h of x plus s, (n, H d).
  package func addToHeads(_ x: Variable<E>, shared s: Variable<E>) -> Variable<E> {
    joined(x, s, heads: x.value.columns / s.value.columns, own: s.value.columns, overlap: true)
  }

  /// 3. Head h of x with s behind it, (n, H (a + b)).
  package func joinToHeads(_ x: Variable<E>, shared s: Variable<E>, heads H: Int) -> Variable<E> {
    joined(x, s, heads: H, own: x.value.columns / H, overlap: false)
  }

  /// 4. Columns `range` of every head of width a, (n, H range.count).
  package func headColumns(_ x: Variable<E>, _ range: Range<Int>, heads H: Int) -> Variable<E> {
    let (n, a, b) = (x.value.rows, x.value.columns / H, range.count)
    var y: [E] = zeros(n * H * b)
    let X = x.value.elements
    do {
      var out = y.mutableSpan
      copyColumns(X.span, width: a, from: range.lowerBound, b, to: &out, width: b, at: 0)
    }
    return record(Tensor(shape: [n, H * b], elements: y)) { dy in
      let g = dy.elements
      x.accumulate { dx in
        addColumns(g.span, width: b, from: 0, b, to: &dx, width: a, at: range.lowerBound)
      }
    }
  }

  /// 5. Head h of z behind head h of x.
  package func joinHeads(_ x: Variable<E>, _ z: Variable<E>, heads H: Int) -> Variable<E> {
    let (n, a, b) = (x.value.rows, x.value.columns / H, z.value.columns / H)
    let (X, Z) = (x.value.elements, z.value.elements)
    var y: [E] = zeros(n * H * (a + b))
    do {
      var out = y.mutableSpan
      copyColumns(X.span, width: a, from: 0, a, to: &out, width: a + b, at: 0)
      copyColumns(Z.span, width: b, from: 0, b, to: &out, width: a + b, at: a)
    }
    return record(Tensor(shape: [n, H * (a + b)], elements: y)) { dy in
      let g = dy.elements
      x.accumulate { dx in
        addColumns(g.span, width: a + b, from: 0, a, to: &dx, width: a, at: 0)
      }
      z.accumulate { dz in
        addColumns(g.span, width: a + b, from: a, b, to: &dz, width: b, at: 0)
      }
    }
  }

  /// 6. c times head h of x times Ψ_g; Ψ is (groups, a, b), and H / groups heads share one.
  package func headBasis(
    _ x: Variable<E>, _ Ψ: Variable<E>, heads H: Int, factor c: E = 1
  ) -> Variable<E> {
    let (n, a, b) = (x.value.rows, Ψ.value.rows, Ψ.value.columns)
    let groups = Ψ.value.count / (a * b)
    precondition(
      x.value.columns == H * a && H % groups == 0, "heads \(x.value.shape), \(Ψ.value.shape)")
    let G = H / groups
    let (X, bases) = (c == 1 ? x.value.elements : x.value.elements.map { c * $0 }, Ψ.value.elements)
    var y: [E] = zeros(n * H * b)
    do {
      var whole = y.mutableSpan
      for h in 0..<H {
        E.libraryMatmul(
          m: n, n: b, k: a, a: X.span.extracting((h * a)...), lda: H * a, transposeA: false,
          b: bases.span.extracting((h / G * a * b)...), ldb: b, transposeB: false, into: &whole,
          from: h * b, ldc: H * b, accumulate: false)
      }
    }
    return record(Tensor(shape: [n, H * b], elements: y)) { dy in
      // d(c x) = dy Ψᵀ, and c times that is dx; dΨ = (c x)ᵀ dy.
      let g = dy.elements
      let scaled = c == 1 ? g : g.map { c * $0 }
      x.accumulate { dx in
        for h in 0..<H {
          E.libraryMatmul(
            m: n, n: a, k: b, a: scaled.span.extracting((h * b)...), lda: H * b, transposeA: false,
            b: bases.span.extracting((h / G * a * b)...), ldb: b, transposeB: true, into: &dx,
            from: h * a, ldc: H * a, accumulate: true)
        }
      }
      Ψ.accumulate { dΨ in
        for h in 0..<H {
          E.libraryMatmul(
            m: a, n: b, k: n, a: X.span.extracting((h * a)...), lda: H * a, transposeA: true,
            b: g.span.extracting((h * b)...), ldb: H * b, transposeB: false, into: &dΨ,
            from: h / G * a * b, ldc: b, accumulate: true)
        }
      }
    }
  }

  /// Heads of `own` columns, and s added to each of them or put behind each of them.
  private func joined(
    _ x: Variable<E>, _ s: Variable<E>, heads H: Int, own: Int, overlap: Bool
  ) -> Variable<E> {
    let (n, b) = (x.value.rows, s.value.columns)
    precondition(
      x.value.columns == H * own && s.value.rows == n && (!overlap || own == b),
      "\(H) heads in \(x.value.shape) with \(s.value.shape)")
    let (width, place) = overlap ? (own, 0) : (own + b, own)
    let (X, S) = (x.value.elements, s.value.elements)
    var y: [E] = zeros(n * H * width)
    do {
      var out = y.mutableSpan
      copyColumns(X.span, width: own, from: 0, own, to: &out, width: width, at: 0)
      addShared(S.span, width: b, heads: H, to: &out, width: width, at: place)
    }
    return record(Tensor(shape: [n, H * width], elements: y)) { dy in
      let g = dy.elements
      x.accumulate { dx in
        addColumns(g.span, width: width, from: 0, own, to: &dx, width: own, at: 0)
      }
      s.accumulate { ds in
        addOverHeads(g.span, width: width, heads: H, from: place, to: &ds, width: b)
      }
    }
  }
}

/// Every stretch of `width` elements of x: `count` of them, from `from` on, to `at` in a stretch of
/// y.
@specialized(where E == Float)
@specialized(where E == Double)
private func copyColumns<E: Scalar>(
  _ x: Span<E>, width a: Int, from: Int, _ count: Int, to y: inout MutableSpan<E>, width b: Int,
  at place: Int
) {
  for i in 0..<x.count / a {
    for j in 0..<count { y[i * b + place + j] = x[i * a + from + j] }
  }
}

/// The same, added.
@specialized(where E == Float)
@specialized(where E == Double)
private func addColumns<E: Scalar>(
  _ x: Span<E>, width a: Int, from: Int, _ count: Int, to y: inout MutableSpan<E>, width b: Int,
  at place: Int
) {
  for i in 0..<x.count / a {
    for j in 0..<count { y[i * b + place + j] += x[i * a + from + j] }
  }
}

/// Row i of s, added in every head of row i of y.
@specialized(where E == Float)
@specialized(where E == Double)
private func addShared<E: Scalar>(
  _ s: Span<E>, width b: Int, heads: Int, to y: inout MutableSpan<E>, width: Int, at place: Int
) {
  for i in 0..<s.count / b {
    for h in 0..<heads {
      let first = (i * heads + h) * width + place
      for j in 0..<b { y[first + j] += s[i * b + j] }
    }
  }
}

/// The sum over the heads of row i of y, added to row i of s.
@specialized(where E == Float)
@specialized(where E == Double)
private func addOverHeads<E: Scalar>(
  _ y: Span<E>, width: Int, heads: Int, from place: Int, to s: inout MutableSpan<E>, width b: Int
) {
  for i in 0..<s.count / b {
    for h in 0..<heads {
      let first = (i * heads + h) * width + place
      for j in 0..<b { s[i * b + j] += y[first + j] }
    }
  }
}
