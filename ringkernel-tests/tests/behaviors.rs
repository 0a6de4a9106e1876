//! The promises of the documentation and the cases of the suite are the same list.
//!
//! A promise is a bullet `- **label**: …` under `# Behavior` in the documentation of a trait, a type or one of their
//! methods. Each has a case at least, and each case names one that is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringkernel_tests::cases;
use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, TraitItem, Type};

const CRATES: [&str; 4] = ["gpubridge-abstractions", "gpubridge-grains", "gpubridge-runtime", "kernels"];
const HEADING: &str = "# Behavior";

/// The promises found, and what is wrong with how some are written.
#[derive(Debug, Default)]
struct Promises {
    names: BTreeSet<String>,
    faults: Vec<String>,
}

impl Promises {
    /// Those of all crates whose documentation the suite checks.
    fn of_the_workspace() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
        let mut promises = Self::default();
        let mut folders: Vec<PathBuf> = CRATES.iter().map(|name| root.join(name).join("src")).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("the sources are there") {
                let path = entry.expect("the sources can be listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    promises.add_source(&fs::read_to_string(&path).expect("the sources are text"));
                }
            }
        }
        promises
    }

    fn add_source(&mut self, source: &str) {
        let file = syn::parse_file(source).expect("the sources are Rust");
        // A module makes no promises of its own: where its documentation has them, no case could name them.
        self.add("module", &file.attrs);
        self.add_items(&file.items);
    }

    fn add_items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Trait(item) => {
                    let name = item.ident.to_string();
                    self.add(&name, &item.attrs);
                    for member in &item.items {
                        if let TraitItem::Fn(method) = member {
                            self.add(&format!("{name}::{}", method.sig.ident), &method.attrs);
                        }
                    }
                }
                Item::Impl(item) => {
                    let Type::Path(owner) = &*item.self_ty else { continue };
                    let Some(owner) = owner.path.segments.last() else { continue };
                    for member in &item.items {
                        if let ImplItem::Fn(method) = member {
                            self.add(&format!("{}::{}", owner.ident, method.sig.ident), &method.attrs);
                        }
                    }
                }
                Item::Struct(item) => self.add(&item.ident.to_string(), &item.attrs),
                Item::Enum(item) => {
                    self.add(&item.ident.to_string(), &item.attrs);
                    for variant in &item.variants {
                        self.add(&format!("{}::{}", item.ident, variant.ident), &variant.attrs);
                    }
                }
                Item::Const(item) => self.add(&item.ident.to_string(), &item.attrs),
                Item::Fn(item) => self.add(&item.sig.ident.to_string(), &item.attrs),
                Item::Mod(item) => self.add_items(item.content.as_ref().map_or(&[], |(_, items)| items)),
                _ => {}
            }
        }
    }

    /// Adds the promises of one piece of documentation.
    fn add(&mut self, owner: &str, attributes: &[Attribute]) {
        let documentation: Vec<String> = attributes.iter().filter_map(doc_line).collect();
        // The list ends at the first empty line behind a bullet.
        let (mut inside, mut empty) = (false, true);
        for line in &documentation {
            let line = line.strip_prefix(' ').unwrap_or(line);
            if line.starts_with('#') {
                (inside, empty) = (line == HEADING, true);
                if !inside && line.to_lowercase().contains("behavio") {
                    self.faults.push(format!("{owner}: the heading is `{HEADING}`, not `{line}`"));
                }
            } else if line.is_empty() {
                inside &= empty;
            } else if inside && !line.starts_with(' ') {
                self.add_bullet(owner, line);
                empty = false;
            } else if !empty && line.starts_with("- **") {
                self.faults.push(format!("{owner}: behind an empty line, so no promise: {line}"));
            }
        }
    }

    fn add_bullet(&mut self, owner: &str, line: &str) {
        let label = line.strip_prefix("- **").and_then(|rest| Some(rest.split_once("**: ")?.0));
        let well_formed =
            |label: &&str| label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        match label.filter(well_formed) {
            Some(label) if self.names.insert(format!("{owner}/{label}")) => {}
            Some(label) => self.faults.push(format!("{owner}/{label} stands twice")),
            None => self.faults.push(format!("{owner}: not of the form `- **label**: …` under `{HEADING}`: {line}")),
        }
    }
}

fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    let Expr::Lit(literal) = &meta.value else { return None };
    let Lit::Str(text) = &literal.lit else { return None };
    meta.path.is_ident("doc").then(|| text.value())
}

#[test]
fn promises_and_cases_are_one_list() {
    let Promises { names: promised, mut faults } = Promises::of_the_workspace();
    let mut checked = BTreeSet::new();
    for case in cases::all() {
        checked.insert(case.behavior.to_owned());
        if !promised.contains(case.behavior) {
            let (area, name, behavior) = (case.area, case.name, case.behavior);
            faults.push(format!("{area}::{name} checks `{behavior}`, which no documentation promises"));
        }
    }
    faults.extend(promised.difference(&checked).map(|promise| format!("no case checks {promise}")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(promised.len() > 100, "only {} promises were found", promised.len());
}

#[test]
fn names_of_cases_are_unique() {
    let mut names = BTreeSet::new();
    for case in cases::all() {
        assert!(names.insert((case.area, case.name)), "{}::{} stands twice", case.area, case.name);
    }
}

/// The check finds what is wrong: a test that cannot fail says nothing.
#[test]
fn promises_are_found_where_they_stand() {
    let mut promises = Promises::default();
    promises.add_source(
        "/// # Behavior
         /// - **whole**: Of the trait.
         trait Made {
             /// # Behavior
             /// - **first**: A promise
             ///   over two lines.
             /// - **first**: Again.
             /// 1. Without a label.
             ///
             /// - **late**: Behind an empty line.
             ///
             /// # Errors
             /// - **second**: Not a promise.
             fn up(&self);
         }
         impl Thing {
             /// # Behaviour
             /// - **spelled**: Otherwise.
             pub fn act(&self) {}
         }",
    );
    assert_eq!(promises.names.iter().collect::<Vec<_>>(), ["Made/whole", "Made::up/first"]);
    assert_eq!(promises.faults.len(), 4, "{:?}", promises.faults);
}
