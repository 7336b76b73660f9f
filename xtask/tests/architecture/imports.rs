//! The imports between modules of `host/`, read from the sources. Between crates the compiler keeps
//! dependencies acyclic; this test does so within a crate, so that each part can be read on its
//! own.
//!
//! A file imports another one if it names an item that is defined there, by any path: re-exports
//! are followed, and a re-export is not an import. Code that only tests use does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::sources::{Crate, Module, Source, crates, root};

/// How many files may import each other: up to this many are one unit in several files.
const LARGEST_CIRCLE: usize = 5;

/// The imports of each module.
fn imports(sources: &Crate) -> BTreeMap<&Module, BTreeSet<Module>> {
    let of = |module: &Module, source: &Source| {
        let used = source.names.named.iter().filter(|named| !named.passed_on);
        let targets = used.filter_map(|named| sources.target(module, &named.path, 16));
        targets.filter(|target| target != module).collect()
    };
    sources.0.iter().map(|(module, source)| (module, of(module, source))).collect()
}

/// The sets of modules that reach each other.
fn circles(imports: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from.clone()];
        while let Some(module) = next.pop() {
            for import in &imports[&module] {
                if reached.insert(import.clone()) {
                    next.push(import.clone());
                }
            }
        }
        reached
    };
    let all: BTreeMap<_, _> = imports.keys().map(|module| (*module, reached(module))).collect();
    let circle = |(module, reached): (&&Module, &BTreeSet<Module>)| -> BTreeSet<Module> {
        reached.iter().filter(|other| all[other].contains(*module)).cloned().collect()
    };
    let mut circles: Vec<_> = all.iter().map(circle).filter(|circle| circle.len() > 1).collect();
    circles.sort();
    circles.dedup();
    circles
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("/") }
}

#[test]
fn within_a_crate_of_the_host_no_more_than_five_files_import_each_other() {
    let mut files = 0;
    for name in crates() {
        let sources = Crate::read(&name);
        files += sources.0.len();
        let imports = imports(&sources);
        for circle in circles(&imports) {
            let list = |modules: &BTreeSet<Module>| modules.iter().map(shown).collect::<Vec<_>>().join(", ");
            let within = |module: &Module| list(&imports[module].intersection(&circle).cloned().collect());
            let arrows: Vec<_> =
                circle.iter().map(|module| format!("{} -> {}", shown(module), within(module))).collect();
            assert!(
                circle.len() <= LARGEST_CIRCLE,
                "{} files of host/{name} import each other:\n{}",
                circle.len(),
                arrows.join("\n")
            );
        }
    }
    assert!(files > 200, "the sources were read: {files} files");
}

#[test]
fn a_circle_is_found_through_a_re_export_and_what_is_only_passed_on_makes_none() {
    let module = |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Module>();
    let read = |of_c: &str| {
        Crate(BTreeMap::from([
            (module(""), Source::parse("mod a; mod c;")),
            (
                module("a"),
                Source::parse("mod b; pub(crate) use b::{B, Other as Another}; use crate::c::C; fn f(c: C) {}"),
            ),
            (module("a/b"), Source::parse("pub(crate) struct B; pub(crate) struct Other;")),
            (module("c"), Source::parse(of_c)),
        ]))
    };
    let one_way = read("use crate::a::{Another, B}; pub struct C;");
    assert_eq!(imports(&one_way)[&module("c")], BTreeSet::from([module("a/b")]), "where it is defined");
    assert!(circles(&imports(&one_way)).is_empty());
    let both_ways = read("use crate::a::f; pub struct C;");
    assert_eq!(circles(&imports(&both_ways)), [BTreeSet::from([module("a"), module("c")])]);
    let in_a_test = read("pub struct C; #[cfg(test)] mod tests { use crate::a::f; }");
    assert!(circles(&imports(&in_a_test)).is_empty());
}

/// The workspace crates in a crate's manifest, without dev-dependencies.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("host").join(name).join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter(|line| line.starts_with("keyway"))
        .map(|line| line.split(['.', ' ']).next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_crate_of_the_host_says_what_it_promises_and_what_it_may_import() {
    for name in crates() {
        let text = fs::read_to_string(root().join("host").join(&name).join("src/lib.rs")).unwrap();
        let head: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let begin = head.iter().position(|line| line.starts_with("//! **May import** of Keyway: "));
        let begin = begin.unwrap_or_else(|| panic!("host/{name}/src/lib.rs does not say what it may import"));
        // Up to the end of the paragraph.
        let line = head[begin..].iter().take_while(|line| **line != "//!").copied().collect::<String>();
        let said: BTreeSet<_> = line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(said, dependencies(&name), "host/{name}");
    }
}
