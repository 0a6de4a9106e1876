# Shorthands. Each is a plain command or two; nothing here is needed to build.

# What must be clean before a commit.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

bench:
    cargo run --release -- bench --markdown docs/benchmarks.md --svg docs/benchmarks

# The instructions of the hot paths against the table; needs valgrind.
instructions:
    .ci/instructions

# Writes the table's section for this compiler and processor.
instructions-update:
    .ci/instructions --update

# The flights of 2013, one actor per aircraft, every score checked.
demo:
    cargo run --release

# The stress runs: millions of operations with exact accounts and flat memory.
stress:
    cargo run --release -- stress all

# The model-based cases, from another seed each time.
models:
    GPUBRIDGE_MODEL_CASES=128 GPUBRIDGE_MODEL_SEED=$(date +%s) cargo test --release -p gpubridge-backend-cpu --test conformance models

# The table of backends in the README, from a run.
capabilities:
    .ci/capabilities

# The long one for minutes.
soak:
    cargo run --release -- stress long --operations 50000000

# The binaries for a machine that has a GPU and nothing else, into target/gpu: carry the folder and .ci/gpu there.
gpu-build:
    cargo build --release --features cuda
    cargo build --release -p gpubridge-backend-cuda --features probe --example gpu
    mkdir -p target/gpu
    strip -o target/gpu/gpubridge target/release/gpubridge
    strip -o target/gpu/gpu target/release/examples/gpu
    git describe --always --dirty > target/gpu/commit

# Everything that is to be known of this machine's GPU, into docs/benchmarks/gpu.
gpu: gpu-build
    #!/usr/bin/env bash
    code=3
    while [ "$code" -eq 3 ]; do
        .ci/gpu target/gpu docs/benchmarks/gpu
        code=$?
    done
    exit "$code"

# The PTX of the CUDA kernels, from their source; needs clang-19.
ptx:
    .ci/ptx

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The arrows between the crates, and the limits on the sources.
layering:
    .ci/layering
    .ci/sources

# Everything that a change must pass.
ci:
    .ci/run
