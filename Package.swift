// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: Swift 6 language mode, warnings are errors, unsafe code must say so.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
  name: "LRQK",
  products: [
    .library(name: "Tensors", targets: ["Tensors"]),
    .library(name: "TieredMemory", targets: ["TieredMemory"]),
    // A product's name is its file's name: libLRQK.so is what other languages call. The Swift
    // module LRQK comes with the product LRQKModule.
    .library(name: "LRQK", type: .dynamic, targets: ["CInterface"]),
    .library(name: "LRQKModule", targets: ["LRQK"]),
    .library(name: "Tokenizers", targets: ["Tokenizers"]),
    .library(name: "Transformers", targets: ["Transformers"]),
    .library(name: "ChatTemplates", targets: ["ChatTemplates"]),
    .library(name: "CacheMethods", targets: ["CacheMethods"]),
    .library(name: "LRQKTool", targets: ["LRQKTool"]),
    .executable(name: "lrqk", targets: ["LRQKMain"]),
  ],
  // Off unless asked for: swift build --traits OpenCL. Drivers are opened while the program runs.
  traits: [
    .trait(name: "OpenCL", description: "The GPU backend through OpenCL (libOpenCL.so.1)"),
    .trait(name: "CUDA", description: "The GPU backend through CUDA's driver (libcuda.so.1)"),
    .trait(
      name: "GPU", description: "The GPU backend through both", enabledTraits: ["OpenCL", "CUDA"]),
  ],
  dependencies: [
    // The tool's command line.
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    // Cosine, sine and powers as functions of the type.
    .package(url: "https://github.com/apple/swift-numerics", exact: "1.1.1"),
  ],
  // One straight line: a module imports only modules above it.
  targets: [
    .systemLibrary(
      name: "CLinearAlgebra", pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev", "liblapacke-dev"])]),
    .target(name: "CFusedChains", exclude: ["README.md"]),
    .target(name: "CMappedFiles", exclude: ["README.md"]),
    .target(
      name: "Tensors", dependencies: ["CLinearAlgebra", "CFusedChains", "CMappedFiles"],
      exclude: ["README.md"], swiftSettings: strict),
    // How results are written: tables, numbers, JSON, pictures.
    .target(name: "Reports", exclude: ["README.md"], swiftSettings: strict),
    .target(
      name: "TieredMemory", dependencies: ["Tensors"], exclude: ["README.md"],
      swiftSettings: strict),
    .target(
      name: "LRQK", dependencies: ["Tensors", "TieredMemory"], exclude: ["README.md"],
      swiftSettings: strict),
    .target(
      name: "Tokenizers", dependencies: ["Tensors"], exclude: ["README.md"],
      swiftSettings: strict),
    .target(
      name: "Transformers",
      dependencies: [
        "Tensors", "TieredMemory",
        .product(name: "RealModule", package: "swift-numerics"),
      ],
      exclude: ["README.md"], swiftSettings: strict),
    .target(
      name: "CacheMethods",
      dependencies: ["Tensors", "Reports", "TieredMemory", "LRQK", "Transformers"],
      exclude: ["README.md"], swiftSettings: strict),
    // Recordings, ours and others', through the methods.
    .target(
      name: "Replay",
      dependencies: [
        "Tensors", "Reports", "TieredMemory", "LRQK", "Transformers", "CacheMethods",
        .product(name: "RealModule", package: "swift-numerics"),
      ],
      exclude: ["README.md"], swiftSettings: strict),
    .target(
      name: "Tasks", dependencies: ["Reports", "Tensors", "Tokenizers"], exclude: ["README.md"],
      swiftSettings: strict),
    .target(
      name: "Training",
      dependencies: [
        "Reports", "Tensors", "Tokenizers", "Transformers", "Tasks",
        .product(name: "RealModule", package: "swift-numerics"),
      ],
      exclude: ["README.md"],
      swiftSettings: strict),
    .target(
      name: "Evaluation",
      dependencies: [
        "Reports", "Tensors", "TieredMemory", "Tokenizers", "Transformers", "CacheMethods",
        "Tasks",
      ],
      exclude: ["README.md"],
      resources: [
        .embedInCode("View/Page/index.html"), .embedInCode("View/Page/page.css"),
        .embedInCode("View/Page/data.js"), .embedInCode("View/Page/step.js"),
        .embedInCode("View/Page/pictures.js"), .embedInCode("View/Page/method.js"),
        .embedInCode("View/Page/page.js"),
      ],
      swiftSettings: strict),
    .target(
      name: "Conformance", dependencies: ["Tensors", "TieredMemory", "LRQK", "Transformers"],
      exclude: ["README.md"], swiftSettings: strict),
    // Only with a trait; without one both are compiled and GPUBackend is empty.
    .target(name: "CGPUShim", exclude: ["README.md"]),
    .target(
      name: "GPUBackend",
      dependencies: ["CGPUShim", "Tensors", "TieredMemory", "LRQK", "Conformance"],
      exclude: ["README.md"],
      resources: [
        .embedInCode("Kernels/prelude.h"), .embedInCode("Kernels/scores.h"),
        .embedInCode("Kernels/selection.h"), .embedInCode("Kernels/residency.h"),
        .embedInCode("Kernels/rows.h"), .embedInCode("Kernels/attention.h"),
        .embedInCode("Kernels/model.h"), .embedInCode("Kernels/solve.h"),
        .embedInCode("Kernels/codes.h"), .embedInCode("Kernels/prefill.h"),
        .embedInCode("Kernels/single.h"), .embedInCode("Kernels/double.h"),
      ],
      swiftSettings: strict),
    .target(
      name: "ChatTemplates", dependencies: ["Tensors"], exclude: ["README.md"],
      swiftSettings: strict),
    // lrqk.h, and what it declares in Swift.
    .target(name: "CLRQK", exclude: ["README.md"]),
    .target(
      name: "CInterface",
      dependencies: ["CLRQK", "Tensors", "TieredMemory", "LRQK", "Transformers"],
      exclude: ["README.md"], swiftSettings: strict),
    // The tool's commands as a library, so that others can add their methods to them.
    .target(
      name: "LRQKTool",
      dependencies: [
        "Tensors", "TieredMemory", "LRQK", "Replay", "Tokenizers", "Transformers", "ChatTemplates",
        "CacheMethods", "Reports", "Tasks", "Evaluation", "Training", "Conformance",
        .target(name: "GPUBackend", condition: .when(traits: ["OpenCL", "CUDA"])),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      exclude: ["README.md"], resources: [.embedInCode("Measure/twin.py")],
      swiftSettings: strict),
    .executableTarget(
      name: "LRQKMain", dependencies: ["LRQKTool"], exclude: ["README.md"], swiftSettings: strict),
    .executableTarget(
      name: "lrqk-in-one-page", path: "Examples/LRQKInOnePage", exclude: ["output.txt"],
      swiftSettings: strict),
    .executableTarget(
      name: "factorise-prompt", dependencies: ["Tensors", "LRQK"],
      path: "Examples/FactorisePrompt", exclude: ["output.txt"], swiftSettings: strict),
    .executableTarget(
      name: "one-decode-step", dependencies: ["Tensors", "TieredMemory", "LRQK"],
      path: "Examples/OneDecodeStep", exclude: ["output.txt"], swiftSettings: strict),
    // Seeded numbers for the tests.
    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: strict),
    .testTarget(
      name: "TensorsTests", dependencies: ["TestSupport", "Tensors"], swiftSettings: strict),
    .testTarget(name: "ReportsTests", dependencies: ["Reports"], swiftSettings: strict),
    .testTarget(
      name: "TieredMemoryTests", dependencies: ["TestSupport", "TieredMemory", "Tensors"],
      swiftSettings: strict),
    .testTarget(
      name: "LRQKTests", dependencies: ["LRQK", "TestSupport", "Tensors", "TieredMemory"],
      swiftSettings: strict),
    .testTarget(
      name: "ReplayTests",
      dependencies: ["Replay", "LRQK", "CacheMethods", "Tensors", "TieredMemory"],
      resources: [.copy("Golden"), .copy("Captures"), .copy("Rivals")],
      swiftSettings: strict),
    .testTarget(
      name: "TokenizersTests", dependencies: ["TestSupport", "Tokenizers", "Tensors"],
      exclude: ["make_tokenizers.py"], resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(
      name: "TransformersTests",
      dependencies: ["TestSupport", "Transformers", "LRQK", "Tensors", "TieredMemory"],
      exclude: ["make_checkpoints.py"], resources: [.copy("Fixtures")],
      swiftSettings: strict),
    .testTarget(
      name: "ChatTemplatesTests", dependencies: ["TestSupport", "ChatTemplates", "Tensors"],
      exclude: ["make_chats.py"], resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(
      name: "CacheMethodsTests",
      dependencies: [
        "CacheMethods", "Transformers", "LRQK", "Tensors", "TieredMemory", "Conformance",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "TasksTests", dependencies: ["TestSupport", "Tensors", "Tasks", "Tokenizers"],
      swiftSettings: strict),
    .testTarget(
      name: "EvaluationTests",
      dependencies: [
        "TestSupport", "Evaluation", "Tasks", "CacheMethods", "Tokenizers", "Transformers",
        "Tensors", "TieredMemory", "Reports",
      ],
      exclude: ["make_needles_logits.py", "make_tiny.py"], resources: [.copy("Fixtures")],
      swiftSettings: strict),
    .testTarget(
      name: "ConformanceTests", dependencies: ["Conformance"], resources: [.copy("Golden")],
      swiftSettings: strict),
    .testTarget(
      name: "TrainingTests",
      dependencies: [
        "TestSupport", "Training", "Tasks", "Tokenizers", "Transformers", "Tensors",
      ],
      swiftSettings: strict),
    // The GPU backend against the CPU reference; empty without a trait. GPUChecks is what the tests
    // and the program gpu-check, which runs on machines without Swift, have in common.
    .target(
      name: "GPUChecks",
      dependencies: [
        "Tensors", "TieredMemory", "LRQK", "Transformers",
        .target(name: "GPUBackend", condition: .when(traits: ["OpenCL", "CUDA"])),
      ],
      exclude: ["README.md"], swiftSettings: strict),
    .executableTarget(
      name: "gpu-check",
      dependencies: [
        "Conformance", "GPUChecks",
        .target(name: "GPUBackend", condition: .when(traits: ["OpenCL", "CUDA"])),
      ],
      path: "Sources/GPUCheck", exclude: ["README.md", "run-on-cuda.sh"], swiftSettings: strict),
    .testTarget(
      name: "GPUBackendTests",
      dependencies: [
        "GPUChecks", "Tensors", "TieredMemory", "LRQK", "Conformance",
        .target(name: "GPUBackend", condition: .when(traits: ["OpenCL", "CUDA"])),
      ],
      exclude: ["Vendor", "Layer", "Mock"], swiftSettings: strict),
    // Calls the C functions and the Swift ones: the same bits. (.ci/library runs the others.)
    .testTarget(
      name: "CInterfaceTests",
      dependencies: [
        "CLRQK", "CInterface", "LRQK", "Transformers", "Tensors", "TieredMemory",
      ],
      exclude: ["check.c", "check_library.py"], swiftSettings: strict),
    // Runs the executables, and depends on them so that they are built first.
    .testTarget(
      name: "ToolTests",
      dependencies: [
        "LRQKMain", "LRQKTool", "LRQK", "Replay", "Evaluation", "CacheMethods", "Tensors",
        "TieredMemory", "lrqk-in-one-page", "factorise-prompt", "one-decode-step",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      exclude: ["explain.txt"], swiftSettings: strict),
  ]
)
