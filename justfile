# Shorthands. Each is a plain command or two; nothing here is needed to build.

# What must be clean before a commit.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

bench:
    cargo run --release -- bench --markdown docs/benchmarks.md --svg docs/benchmarks

# The flights of 2013, one actor per aircraft, every score checked.
demo:
    cargo run --release

# The long tests: more than a million operations with flat memory.
soak:
    cargo test --workspace --release -- --ignored soak

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The arrows between the crates, and the limits on the sources.
layering:
    .ci/layering
    .ci/sources

# Everything that a change must pass.
ci:
    .ci/run
