//! Criterion micro-benchmarks of the pure Rust core: `cargo bench -p core-bench` in `benches/`.
