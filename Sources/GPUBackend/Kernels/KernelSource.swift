// The kernels: their names, and the text that a device compiles.
//
// In:  the files of Kernels, embedded in this module.
// Out: two whole programs. `single` runs on every device; `double` needs double precision on the
//      device: the alternating solver sums squares in double, as the reference does, and prefill
//      works in d by d space in double.
//
// single.h and double.h include the others by name. Devices compile a text, not a file, so the
// includes are expanded here; compilers with a file system read the same files as they stand.

#if OpenCL || CUDA

  /// A text that a device compiles as a whole.
  package enum KernelProgram: String, Sendable, CaseIterable {
    /// The kernels without double precision.
    case single
    /// The kernels that need double precision.
    case double

    /// The text, every include expanded.
    package var source: String { Self.expanded("\(rawValue).h") }

    private static func expanded(_ name: String) -> String {
      guard let bytes = files[name] else { preconditionFailure("no kernel file \(name)") }
      let opening = "#include \""
      return String(decoding: bytes, as: UTF8.self)
        .split(separator: "\n", omittingEmptySubsequences: false)
        .map { line in
          line.hasPrefix(opening)
            ? expanded(String(line.dropFirst(opening.count).dropLast())) : String(line)
        }
        .joined(separator: "\n")
    }

    private static let files: [String: [UInt8]] = [
      "prelude.h": PackageResources.prelude_h, "scores.h": PackageResources.scores_h,
      "selection.h": PackageResources.selection_h, "residency.h": PackageResources.residency_h,
      "rows.h": PackageResources.rows_h, "attention.h": PackageResources.attention_h,
      "model.h": PackageResources.model_h, "solve.h": PackageResources.solve_h,
      "codes.h": PackageResources.codes_h, "prefill.h": PackageResources.prefill_h,
      "single.h": PackageResources.single_h, "double.h": PackageResources.double_h,
    ]
  }

  /// A kernel by the name that it has in the text.
  package enum DeviceKernel: String, Sendable, CaseIterable {
    // scores.h
    case proxyScores = "proxy_scores"
    case codeScores = "code_scores"
    case attentionScores = "attention_scores"
    // selection.h
    case topK = "top_k"
    case countUp = "count_up"
    // residency.h
    case neededTokens = "needed_tokens"
    case planResidency = "plan_residency"
    case attendedSlots = "attended_slots"
    // rows.h
    case fillFloats = "fill_floats"
    case fillInts = "fill_ints"
    case copyFloats = "copy_floats"
    case scatterRows = "scatter_rows"
    case placePromptRows = "place_prompt_rows"
    case placeRingRows = "place_ring_rows"
    case appendRows = "append_rows"
    case collectRing = "collect_ring"
    // attention.h
    case attentionSoftmax = "attention_softmax"
    case attentionValues = "attention_values"
    // model.h
    case linearCodes = "linear_codes"
    case rope
    case lrkvScores = "lrkv_scores"
    case lrkvMix = "lrkv_mix"
    case lrkvValues = "lrkv_values"
    // codes.h
    case omegaProducts = "omega_products"
    case beginCodes = "begin_codes"
    case alternateCodes = "alternate_codes"
    case updateBasis = "update_basis"
    case appendCodes = "append_codes"
    // prefill.h
    case rowProduct = "row_product"
    case addDoubles = "add_doubles"
    case narrow
    case gramBasis = "gram_basis"
    case gramMap = "gram_map"
    case gramReplace = "gram_replace"
    case rmsNorm = "rms_norm"

    /// The program that it is part of.
    package var program: KernelProgram {
      switch self {
      case .omegaProducts, .beginCodes, .alternateCodes, .updateBasis, .appendCodes, .rowProduct,
        .addDoubles, .narrow, .gramBasis, .gramMap, .gramReplace, .rmsNorm:
        .double
      default: .single
      }
    }

    /// How many items a group has: GROUP or WIDE of prelude.h.
    package var items: Int {
      switch self {
      case .topK, .neededTokens, .planResidency, .attentionSoftmax, .beginCodes, .alternateCodes,
        .updateBasis, .gramBasis, .gramMap, .gramReplace, .rmsNorm:
        256
      default: DeviceKernel.group
      }
    }

    /// The items of an ordinary group: GROUP of prelude.h.
    package static let group = 64
  }

#endif
