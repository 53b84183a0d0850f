// The device memory that every step overwrites.
//
// In:  the sizes of a layer. Out: room for one step's inputs, scores, lists and outputs.
//
// Nothing in here outlives a step. It is allocated once, because allocation is slow on a device.
// Only the scores grow, with A_K.

#if OpenCL || CUDA

  import LRQK
  import TieredMemory

  /// Device memory that a step overwrites.
  final class Workspace {
    let queries: DeviceArray<Float>
    let newKeys: DeviceArray<Float>
    let newValues: DeviceArray<Float>
    let queryCodes: DeviceArray<Float>
    let keyCodes: DeviceArray<Float>
    /// Scores, (H, room): they grow with A_K.
    private(set) var scores: DeviceArray<Float>
    let gaps: DeviceArray<Float>
    let nans: DeviceArray<Int32>
    let solver: SolverWorkspace?

    init(
      _ context: GPUContext, _ shape: CacheShape, groups: Int, room: Int, _ parameters: Parameters
    ) throws {
      let (H, M, d, r) = (
        shape.queryHeads, shape.keyValueHeads, shape.width, parameters.rank
      )
      queries = try context.array(H * d)
      newKeys = try context.array(M * d)
      newValues = try context.array(M * d)
      queryCodes = try context.array(H * r)
      keyCodes = try context.array(groups * r)
      scores = try context.array(H * room)
      gaps = try context.array(H)
      nans = try context.array(H)
      solver =
        parameters.hasLinearCodes
        ? nil
        : try SolverWorkspace(context, queryHeads: H, groups: groups, width: d, rank: r)
    }

    /// New scores for `room` tokens; the old ones hold nothing that is needed.
    func grow(_ context: GPUContext, queryHeads: Int, room: Int) throws {
      scores = try context.array(queryHeads * room)
    }
  }

  /// What the alternating solver works in; see codes.h.
  final class SolverWorkspace {
    let grams: DeviceArray<Float>
    let crosses: DeviceArray<Float>
    let keySystems: DeviceArray<Float>
    let keyTargets: DeviceArray<Float>
    let selves: DeviceArray<Float>
    let scratch: DeviceArray<Float>
    let basisScratch: DeviceArray<Float>
    let changes: DeviceArray<Double>
    let status: DeviceArray<Int32>

    init(_ context: GPUContext, queryHeads H: Int, groups: Int, width d: Int, rank r: Int) throws {
      grams = try context.array(H * r * r)
      crosses = try context.array(H * r)
      keySystems = try context.array(groups * r * r)
      keyTargets = try context.array(groups * r)
      selves = try context.array(H)
      scratch = try context.array(groups * (3 * r * r + 4 * r))
      basisScratch = try context.array((2 * H + groups * r) * d)
      changes = try context.array(groups)
      status = try context.array(4 * groups)
    }
  }

#endif
