//! Lists the public API of the two libraries and of the crates that they re-export, so that every
//! change of it shows up in a diff.
//!
//! The listing is made from the sources, by following what each `lib.rs` re-exports. Bodies,
//! private items, conversions from private types and documentation are left out.
//! `KEYWAY_UPDATE_DOCS=1` rewrites it.

use std::collections::BTreeSet;
use std::{env, fs};

use quote::ToTokens;
use syn::visit::Visit;
use syn::{Attribute, Fields, Item, ItemImpl, Type, UseTree, Visibility, parse_quote};

use crate::sources::{Crate, Module, is_for_tests, root};

/// A crate's folder and its name.
const LIBRARIES: [(&str, &str); 7] = [
    ("broker", "keyway"),
    ("runtime", "keyway_runtime"),
    // What `keyway` re-exports, whole or in part.
    ("audit", "keyway_audit"),
    ("budget", "keyway_budget"),
    ("clock", "keyway_clock"),
    ("keys", "keyway_keys"),
    ("storage", "keyway_storage"),
];

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Removes attributes that are not part of the interface.
fn strip(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| {
        let path = attribute.path();
        path.is_ident("derive") || path.is_ident("non_exhaustive") || path.is_ident("cfg")
    });
}

fn gates(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).cloned().collect()
}

/// Adds the conditions under which an item is there.
fn add_gates(item: &mut Item, gates: &[Attribute]) {
    let attributes = match item {
        Item::Struct(item) => &mut item.attrs,
        Item::Enum(item) => &mut item.attrs,
        Item::Trait(item) => &mut item.attrs,
        Item::Fn(item) => &mut item.attrs,
        Item::Const(item) => &mut item.attrs,
        Item::Type(item) => &mut item.attrs,
        Item::Impl(item) => &mut item.attrs,
        _ => return,
    };
    let text = |gate: &Attribute| gate.to_token_stream().to_string();
    let known: Vec<_> = attributes.iter().map(text).collect();
    let missing: Vec<_> = gates.iter().filter(|gate| !known.contains(&text(gate))).cloned().collect();
    attributes.splice(0..0, missing);
}

fn strip_fields(fields: &mut Fields) -> bool {
    let before = fields.len();
    match fields {
        Fields::Named(fields) => {
            fields.named = fields.named.iter().filter(|field| is_public(&field.vis)).cloned().collect();
        }
        Fields::Unnamed(fields) if fields.unnamed.iter().all(|field| !is_public(&field.vis)) => fields.unnamed.clear(),
        _ => {}
    }
    fields.iter_mut().for_each(|field| strip(&mut field.attrs));
    fields.len() < before
}

/// A declaration as callers see it; `None` for a private one.
fn outside(item: &Item) -> Option<Item> {
    let mut item = item.clone();
    match &mut item {
        Item::Struct(item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            if strip_fields(&mut item.fields) {
                item.attrs.push(parse_quote!(#[private_fields]));
            }
        }
        Item::Enum(item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            for variant in &mut item.variants {
                strip(&mut variant.attrs);
                variant.fields.iter_mut().for_each(|field| strip(&mut field.attrs));
            }
        }
        Item::Trait(item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            for function in &mut item.items {
                if let syn::TraitItem::Fn(function) = function {
                    strip(&mut function.attrs);
                    if function.default.is_some() {
                        function.default = Some(parse_quote!({}));
                    }
                }
            }
        }
        Item::Fn(item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            item.block = parse_quote!({});
        }
        Item::Const(item) if is_public(&item.vis) => {
            strip(&mut item.attrs);
            // The value is not part of the interface: most constants are limits, which may change.
            item.expr = parse_quote!(_);
        }
        Item::Type(item) if is_public(&item.vis) => strip(&mut item.attrs),
        _ => return None,
    }
    Some(item)
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Struct(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Const(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// The public part of an `impl`; `None` if it has none.
fn offered(item: &ItemImpl) -> Option<ItemImpl> {
    let mut item = item.clone();
    strip(&mut item.attrs);
    if item.trait_.is_some() {
        item.items.clear();
        return Some(item);
    }
    item.items.retain(|part| match part {
        syn::ImplItem::Fn(function) => is_public(&function.vis),
        syn::ImplItem::Const(constant) => is_public(&constant.vis),
        _ => false,
    });
    for part in &mut item.items {
        match part {
            syn::ImplItem::Fn(function) => {
                strip(&mut function.attrs);
                function.block = parse_quote!({});
            }
            syn::ImplItem::Const(constant) => {
                strip(&mut constant.attrs);
                constant.expr = parse_quote!(_);
            }
            _ => {}
        }
    }
    (!item.items.is_empty()).then_some(item)
}

/// The paths in a signature.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    /// Attributes, such as derives, are written with the crate that the library itself uses.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

/// The crates that the library depends on, as paths name them.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("host").join(folder).join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let lines = after.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// An item, and the `impl`s of it with the modules that they are in.
struct Declared {
    path: String,
    item: Item,
    impls: Vec<(Module, ItemImpl)>,
}

struct Listing<'a> {
    sources: &'a Crate,
    items: Vec<Declared>,
    /// Modules and names of the items.
    public: BTreeSet<(Module, String)>,
    /// Re-exports from other crates: the path, and the rest of the line.
    passed_on: BTreeSet<(String, String)>,
    dependencies: BTreeSet<String>,
    /// What signatures name of other crates, by path.
    foreign: BTreeSet<String>,
}

/// Where an item is exported: the path before its name, and the conditions.
#[derive(Clone)]
struct Export {
    prefix: String,
    gates: Vec<Attribute>,
}

impl Listing<'_> {
    /// Lists what a module exports: its own items and its re-exports.
    fn module(&mut self, module: &Module, export: &Export) {
        let inside = |name: &str, attributes: &[Attribute]| {
            let gates = [&export.gates[..], &gates(attributes)].concat();
            Export { prefix: format!("{}{name}", export.prefix), gates }
        };
        for item in &self.sources.0[module].file.items {
            match item {
                Item::Use(item) if is_public(&item.vis) => {
                    self.tree(module, &item.tree, Vec::new(), &inside("", &item.attrs));
                }
                Item::Mod(item) if is_public(&item.vis) && !is_for_tests(&item.attrs) => {
                    let child = [&module[..], &[item.ident.to_string()]].concat();
                    self.module(&child, &inside(&format!("{}::", item.ident), &item.attrs));
                }
                item => self.declare(module, item, export),
            }
        }
    }

    fn tree(&mut self, module: &Module, tree: &UseTree, mut path: Vec<String>, export: &Export) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.tree(module, &part.tree, path, export);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(module, tree, path.clone(), export));
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.passed(module, &path, None, export);
            }
            UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                self.passed(module, &path, Some(rename.rename.to_string()), export);
            }
            UseTree::Glob(_) => panic!("a re-export of everything hides what it offers"),
        }
    }

    fn passed(&mut self, module: &Module, path: &[String], alias: Option<String>, export: &Export) {
        let name = path.last().unwrap();
        let target = self.sources.target(module, path, 16);
        let declared = target.as_ref().and_then(|target| {
            let items = &self.sources.0[target].file.items;
            items.iter().find(|item| name_of(item).as_ref() == Some(name)).map(|item| (target.clone(), item.clone()))
        });
        match declared {
            Some((target, item)) => self.declare(&target, &item, export),
            None => {
                let alias = alias.map(|alias| format!(" as {alias}")).unwrap_or_default();
                let gates: String = export.gates.iter().map(|gate| format!(" {}", gate.to_token_stream())).collect();
                self.passed_on.insert((format!("{}{}", export.prefix, path.join("::")), alias + &gates));
            }
        }
    }

    fn declare(&mut self, module: &Module, item: &Item, export: &Export) {
        let (Some(mut outside), Some(name)) = (outside(item), name_of(item)) else { return };
        add_gates(&mut outside, &export.gates);
        let mut impls = Vec::new();
        for (other, source) in &self.sources.0 {
            for item in &source.file.items {
                let Item::Impl(item) = item else { continue };
                let Type::Path(of) = &*item.self_ty else { continue };
                let segments: Vec<_> = of.path.segments.iter().map(|part| part.ident.to_string()).collect();
                let is_same = segments.last() == Some(&name)
                    && (other == module || self.sources.target(other, &segments, 16).as_ref() == Some(module));
                let offered = if is_same { offered(item) } else { None };
                impls.extend(offered.map(|item| (other.clone(), item)));
            }
        }
        self.collect_foreign(module, &outside);
        self.public.insert((module.clone(), name.clone()));
        self.items.push(Declared { path: format!("{}{name}", export.prefix), item: outside, impls });
    }

    /// Leaves out the `impl`s that nobody outside can use, and notes under which conditions the
    /// others are there.
    fn finish(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        for declared in &mut items {
            declared.impls.retain(|(module, item)| !self.is_for_tests(module) && !self.is_private(module, item));
            for (module, item) in &mut declared.impls {
                let mut whole = Item::Impl(item.clone());
                self.collect_foreign(module, &whole);
                add_gates(&mut whole, &self.gates_of(module));
                let Item::Impl(whole) = whole else { continue };
                *item = whole;
            }
            declared.impls.sort_by_cached_key(|(_, item)| item.to_token_stream().to_string());
        }
        items.sort_by(|one, other| one.path.cmp(&other.path));
        self.items = items;
    }

    /// The conditions under which a module is there.
    fn gates_of(&self, module: &Module) -> Vec<Attribute> {
        let Some((name, parent)) = module.split_last() else { return Vec::new() };
        let declared = self.sources.0[parent].file.items.iter().find_map(|item| match item {
            Item::Mod(item) if item.ident == name => Some(gates(&item.attrs)),
            _ => None,
        });
        [self.gates_of(&parent.to_vec()), declared.unwrap_or_default()].concat()
    }

    fn is_for_tests(&self, module: &Module) -> bool {
        let names_test = |gate: &Attribute| {
            let tokens = gate.to_token_stream().to_string();
            tokens.split(|c: char| !c.is_alphanumeric() && c != '"').any(|word| word == "test")
        };
        self.gates_of(module).iter().any(names_test)
    }

    /// Whether an `impl` is of a private trait, or of a trait of private types, for example a
    /// conversion from one.
    fn is_private(&self, module: &Module, item: &ItemImpl) -> bool {
        let Some((implemented, _)) = &item.trait_ else { return false };
        let mut paths = Paths::default();
        paths.visit_path(implemented);
        paths.0.iter().any(|path| {
            let (Some(name), Some(target)) = (path.last(), self.sources.target(module, path, 16)) else { return false };
            let is_of_another_crate = self.sources.0[&target].names.named.iter().any(|named| {
                named.alias.as_ref() == Some(name) && self.sources.target(&target, &named.path, 16).is_none()
            });
            !is_of_another_crate && !self.public.contains(&(target, name.clone()))
        })
    }

    fn collect_foreign(&mut self, module: &Module, item: &Item) {
        let mut paths = Paths::default();
        match item {
            // Whoever uses a foreign trait has its crate.
            Item::Impl(ItemImpl { trait_: Some((implemented, _)), .. }) => {
                implemented.segments.iter().for_each(|part| paths.visit_path_arguments(&part.arguments));
            }
            item => paths.visit_item(item),
        }
        for mut path in paths.0 {
            let named = &self.sources.0[module].names.named;
            if let Some(imported) = named.iter().find(|named| named.alias.as_ref() == path.first()) {
                path.splice(..1, imported.path.iter().cloned());
            }
            if self.dependencies.contains(&path[0]) {
                self.foreign.insert(path.join("::"));
            }
        }
    }

    fn passes_on(&self, path: &str) -> bool {
        let whole = path.split_once("::").map_or(path, |(name, _)| name);
        let is = |export: &str| [whole, path].iter().any(|of| export.ends_with(&format!("::{of}")));
        self.passed_on.iter().any(|(export, _)| is(export))
    }
}

fn read<'a>(sources: &'a Crate, folder: &str, name: &str) -> Listing<'a> {
    let (items, public, passed_on, foreign) = Default::default();
    let mut listing = Listing { sources, items, public, passed_on, dependencies: dependencies(folder), foreign };
    listing.module(&Vec::new(), &Export { prefix: format!("{name}::"), gates: Vec::new() });
    listing.finish();
    listing
}

fn listing(folder: &str, name: &str) -> String {
    let sources = Crate::read(folder);
    let listing = read(&sources, folder, name);
    let mut text = format!("What `{name}` offers. Made from the sources by the test `public_api`.\n\n");
    for (path, rest) in &listing.passed_on {
        text.push_str(&format!("pub use {path}{rest}\n"));
    }
    for Declared { path, item, impls } in listing.items {
        let impls = impls.into_iter().map(|(_, item)| Item::Impl(item));
        let items = std::iter::once(item).chain(impls).collect();
        let file = syn::File { shebang: None, frontmatter: None, attrs: Vec::new(), items };
        text.push_str(&format!("\n# {path}\n{}", prettyplease::unparse(&file)));
    }
    text
}

#[test]
fn the_listing_of_what_the_libraries_offer_is_up_to_date() {
    for (folder, name) in LIBRARIES {
        let path = root().join("host").join(folder).join("public-api.txt");
        let now = listing(folder, name);
        assert!(now.contains(&format!("# {name}::")), "the sources were read");
        if env::var_os("KEYWAY_UPDATE_DOCS").is_some() {
            fs::write(&path, &now).unwrap();
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        let line = before.lines().zip(now.lines()).position(|(before, now)| before != now);
        assert!(
            before == now,
            "{} differs from the library's API (first at line {}). If the change is intended, rewrite it with KEYWAY_UPDATE_DOCS=1, and note it in CHANGELOG.md",
            path.display(),
            line.unwrap_or_else(|| before.lines().count().min(now.lines().count())) + 1
        );
    }
}

/// An embedder names these types without a dependency of its own, whose version may differ.
#[test]
fn what_signatures_name_of_other_crates_is_re_exported() {
    let sources = Crate::read("broker");
    let keyway = read(&sources, "broker", "keyway");
    for (folder, name) in LIBRARIES {
        let sources = Crate::read(folder);
        let listing = read(&sources, folder, name);
        assert!(!listing.items.is_empty(), "the sources of {name} were read");
        // The other crates of the host are used through `keyway`, which need not offer all of them.
        let is_inside = |path: &str| path.starts_with("keyway_") || keyway.passes_on(path);
        let is_library = ["broker", "runtime"].contains(&folder);
        let is_missing = |path: &&String| !listing.passes_on(path) && (is_library || !is_inside(path));
        let missing: Vec<_> = listing.foreign.iter().filter(is_missing).collect();
        assert!(missing.is_empty(), "{name} names these in its signatures; re-export them: {missing:?}");
    }
}
