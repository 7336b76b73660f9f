//! Lists the public API of the two libraries, so that every change of it shows up in a diff.
//!
//! The listing is made from the sources, by following what each `lib.rs` re-exports. Bodies,
//! private items and documentation are left out. `KEYWAY_UPDATE_DOCS=1` rewrites it.

use std::collections::BTreeSet;
use std::{env, fs};

use quote::ToTokens;
use syn::visit::Visit;
use syn::{Attribute, Fields, Item, ItemImpl, Type, UseTree, Visibility, parse_quote};

use crate::sources::{Crate, Module, Source, root};

/// A crate's folder, its name, and the host crates that it re-exports as a whole.
const LIBRARIES: [(&str, &str); 2] = [("broker", "keyway"), ("runtime", "keyway_runtime")];

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Removes attributes that are not part of the interface.
fn strip(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| {
        let path = attribute.path();
        path.is_ident("derive") || path.is_ident("non_exhaustive")
    });
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

/// Collects what the signatures of a file name of other crates, by path.
struct Foreign<'a> {
    source: &'a Source,
    crates: &'a BTreeSet<String>,
    found: &'a mut BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Foreign<'_> {
    /// Attributes, such as derives, are written with the crate that the library itself uses.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        let imported = self.source.names.named.iter().find(|named| named.alias.as_ref() == segments.first());
        if let Some(imported) = imported {
            segments.splice(..1, imported.path.iter().cloned());
        }
        if self.crates.contains(&segments[0]) {
            self.found.insert(segments.join("::"));
        }
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

struct Listing<'a> {
    sources: &'a Crate,
    items: Vec<(String, Vec<Item>)>,
    /// Re-exports from other crates, by path.
    passed_on: BTreeSet<String>,
    dependencies: BTreeSet<String>,
    /// What signatures name of other crates, by path.
    foreign: BTreeSet<String>,
}

impl Listing<'_> {
    /// Lists what a module exports: its own items and its re-exports.
    fn module(&mut self, module: &Module, prefix: &str) {
        for item in &self.sources.0[module].file.items {
            match item {
                Item::Use(item) if is_public(&item.vis) => self.tree(module, &item.tree, Vec::new(), prefix),
                Item::Mod(item) if is_public(&item.vis) => {
                    let child = [&module[..], &[item.ident.to_string()]].concat();
                    self.module(&child, &format!("{prefix}{}::", item.ident));
                }
                item => self.declare(module, item, prefix),
            }
        }
    }

    fn tree(&mut self, module: &Module, tree: &UseTree, mut path: Vec<String>, prefix: &str) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.tree(module, &part.tree, path, prefix);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(module, tree, path.clone(), prefix));
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.passed(module, &path, None, prefix);
            }
            UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                self.passed(module, &path, Some(rename.rename.to_string()), prefix);
            }
            UseTree::Glob(_) => panic!("a re-export of everything hides what it offers"),
        }
    }

    fn passed(&mut self, module: &Module, path: &[String], alias: Option<String>, prefix: &str) {
        let name = path.last().unwrap();
        let target = self.sources.target(module, path, 16);
        let declared = target.as_ref().and_then(|target| {
            let items = &self.sources.0[target].file.items;
            items.iter().find(|item| name_of(item).as_ref() == Some(name)).map(|item| (target.clone(), item.clone()))
        });
        match declared {
            Some((target, item)) => self.declare(&target, &item, prefix),
            None => {
                let alias = alias.map(|alias| format!(" as {alias}")).unwrap_or_default();
                self.passed_on.insert(format!("{prefix}{}{alias}", path.join("::")));
            }
        }
    }

    fn declare(&mut self, module: &Module, item: &Item, prefix: &str) {
        let (Some(outside), Some(name)) = (outside(item), name_of(item)) else { return };
        let mut list = vec![outside];
        for (other, source) in &self.sources.0 {
            for item in &source.file.items {
                let Item::Impl(item) = item else { continue };
                let Type::Path(of) = &*item.self_ty else { continue };
                let segments: Vec<_> = of.path.segments.iter().map(|part| part.ident.to_string()).collect();
                let is_same = segments.last() == Some(&name)
                    && (other == module || self.sources.target(other, &segments, 16).as_ref() == Some(module));
                let Some(offered) = offered(item).filter(|_| is_same) else { continue };
                self.collect_foreign(other, &Item::Impl(offered.clone()));
                list.push(Item::Impl(offered));
            }
        }
        self.collect_foreign(module, &list[0]);
        list[1..].sort_by_cached_key(|item| item.to_token_stream().to_string());
        self.items.push((format!("{prefix}{name}"), list));
    }

    fn collect_foreign(&mut self, module: &Module, item: &Item) {
        let source = &self.sources.0[module];
        Foreign { source, crates: &self.dependencies, found: &mut self.foreign }.visit_item(item);
    }

    fn passes_on(&self, path: &str) -> bool {
        let whole = path.split_once("::").map_or(path, |(name, _)| name);
        let exported = self.passed_on.iter().filter_map(|export| export.split(" as ").next());
        exported.into_iter().any(|export| [whole, path].iter().any(|of| export.ends_with(&format!("::{of}"))))
    }
}

fn read<'a>(sources: &'a Crate, folder: &str, name: &str) -> Listing<'a> {
    let dependencies = dependencies(folder);
    let (items, passed_on, foreign) = Default::default();
    let mut listing = Listing { sources, items, passed_on, dependencies, foreign };
    listing.module(&Vec::new(), &format!("{name}::"));
    listing
}

fn listing(folder: &str, name: &str) -> String {
    let sources = Crate::read(folder);
    let mut listing = read(&sources, folder, name);
    listing.items.sort_by(|one, other| one.0.cmp(&other.0));
    let mut text = format!("What `{name}` offers. Made from the sources by the test `public_api`.\n\n");
    for path in &listing.passed_on {
        text.push_str(&format!("pub use {path}\n"));
    }
    for (path, items) in listing.items {
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
    for (folder, name) in LIBRARIES {
        let sources = Crate::read(folder);
        let listing = read(&sources, folder, name);
        assert!(!listing.foreign.is_empty(), "the signatures of {name} were read");
        let missing: Vec<_> = listing.foreign.iter().filter(|path| !listing.passes_on(path)).collect();
        assert!(missing.is_empty(), "{name} names these in its signatures; re-export them: {missing:?}");
    }
}
