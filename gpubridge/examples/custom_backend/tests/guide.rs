//! `docs/backend-guide.md` says of this crate, the traits and the suite what is so.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringkernel_tests::Suite;

const GUIDE: &str = include_str!("../../../../docs/backend-guide.md");
const LEFT_OUT: &str = "// …";

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file that an excerpt is from: of this crate, or of the workspace.
fn source(path: &str) -> String {
    let candidates = [crate_folder().join(path), crate_folder().join("../../..").join(path)];
    let found: Option<PathBuf> = candidates.into_iter().find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("the guide quotes {path}, which is not there"));
    fs::read_to_string(found).expect("it is readable")
}

/// Goal: excerpts do not drift from what they are taken from. Method: each block marked `rs` names its file in its first
/// line; every other line stands in that file, in the same order.
#[test]
fn excerpts_are_from_the_sources() {
    let blocks: Vec<_> = GUIDE.split("```rs\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect();
    assert!(blocks.len() >= 10, "the guide has {} excerpts", blocks.len());
    for block in blocks {
        let mut lines = block.lines();
        let path = lines.next().and_then(|line| line.strip_prefix("// ")).expect("an excerpt names its file");
        let source = source(path);
        let mut rest = source.lines();
        for line in lines.filter(|line| !line.is_empty() && line.trim() != LEFT_OUT) {
            assert!(rest.any(|of_source| of_source == line), "{path} does not have, or not in this place: {line}");
        }
    }
}

/// Goal: a reader finds the cases that the guide names. Method: whatever is written as `area::claim` is one.
#[test]
fn cases_that_are_named_exist() {
    let cases: HashSet<String> = Suite::cases().map(|case| case.full_name()).collect();
    let areas: HashSet<&str> = Suite::cases().map(|case| case.area).collect();
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    // An area alone, `area::`, is a filter.
    let words = GUIDE.split(|c: char| !is_part(c)).filter(|word| !word.ends_with("::"));
    let named: HashSet<&str> =
        words.filter(|word| word.split_once("::").is_some_and(|(area, _)| areas.contains(area))).collect();
    assert!(named.len() >= 20, "the guide names {} cases", named.len());
    for name in named {
        assert!(cases.contains(name), "the guide names {name}, which is no case");
    }
}

/// Goal: the example stays as small as the guide says. Method: lines that are neither blank nor comments.
#[test]
fn the_example_is_under_400_lines_of_code() {
    let sources = fs::read_dir(crate_folder().join("src")).expect("the crate has sources");
    let text: String =
        sources.map(|file| fs::read_to_string(file.expect("it is listed").path()).expect("it is readable")).collect();
    let code = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!((100..400).contains(&code), "{code} lines of code");
}
