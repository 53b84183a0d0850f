// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "NewMethod",
  dependencies: [.package(name: "LRQK", path: "../..")],
  targets: [
    .target(
      name: "MyMethod",
      dependencies: [
        .product(name: "Tensors", package: "LRQK"),
        .product(name: "TieredMemory", package: "LRQK"),
        .product(name: "Transformers", package: "LRQK"),
        .product(name: "CacheMethods", package: "LRQK"),
      ]),
    .executableTarget(
      name: "lrqk-mine",
      dependencies: ["MyMethod", .product(name: "LRQKTool", package: "LRQK")]),
  ]
)
