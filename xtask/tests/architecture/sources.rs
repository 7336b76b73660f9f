//! The sources of the host's crates, as they are built without tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// A module's path within the crate, for example `["rotation", "journal"]`.
pub(crate) type Module = Vec<String>;

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder names of the host's crates.
pub(crate) fn crates() -> Vec<String> {
    let folders = fs::read_dir(root().join("host")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = folders
        .filter(|folder| folder.join("src/lib.rs").is_file())
        .map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// A path that a file names, and its local name; `passed_on` if the file only re-exports it.
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) alias: Option<String>,
    pub(crate) passed_on: bool,
}

/// The names in a file.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) named: Vec<Named>,
    /// Submodules with files of their own.
    children: Vec<String>,
}

impl Names {
    fn tree(&mut self, tree: &UseTree, mut path: Vec<String>, passed_on: bool) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.tree(&part.tree, path, passed_on);
            }
            UseTree::Name(name) if name.ident == "self" => self.push(path, None, passed_on),
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.push(path, None, passed_on);
            }
            UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                self.push(path, Some(rename.rename.to_string()), passed_on);
            }
            UseTree::Glob(_) => self.push(path, None, passed_on),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, path.clone(), passed_on)),
        }
    }

    fn push(&mut self, path: Vec<String>, alias: Option<String>, passed_on: bool) {
        let alias = alias.or_else(|| path.last().cloned());
        self.named.push(Named { path, alias, passed_on });
    }
}

/// Whether code under this condition is only in tests, and in what `cargo xtask fuzz` builds.
fn is_of_tests(condition: &str) -> bool {
    condition == "test" || condition == "any (test , fuzzing)"
}

pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| is_of_tests(&list.tokens.to_string()))
    };
    attributes.iter().any(is_test)
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        match module.content {
            None => self.children.push(module.ident.to_string()),
            Some(_) => visit::visit_item_mod(self, module),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, Vec::new(), !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.named.push(Named { path: segments, alias: None, passed_on: false });
        }
        visit::visit_path(self, path);
    }
}

/// A file: its items and the names it uses.
pub(crate) struct Source {
    pub(crate) file: syn::File,
    pub(crate) names: Names,
}

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
        let file = syn::parse_file(text).unwrap();
        let mut names = Names::default();
        names.visit_file(&file);
        Self { file, names }
    }
}

/// The modules of a crate.
pub(crate) struct Crate(pub(crate) BTreeMap<Module, Source>);

impl Crate {
    pub(crate) fn read(name: &str) -> Self {
        let mut modules = BTreeMap::new();
        Self::add(&mut modules, Vec::new(), &root().join("host").join(name).join("src"));
        Self(modules)
    }

    fn add(modules: &mut BTreeMap<Module, Source>, module: Module, folder: &Path) {
        let path = module.iter().fold(folder.to_owned(), |path, part| path.join(part));
        let candidates = [path.join("lib.rs"), path.with_extension("rs"), path.join("mod.rs")];
        let file =
            if module.is_empty() { candidates.first() } else { candidates[1..].iter().find(|file| file.is_file()) };
        // Only test modules use another file name (`#[path]`).
        let Some(file) = file else { return };
        let source = Source::parse(&fs::read_to_string(file).unwrap());
        for child in source.names.children.clone() {
            Self::add(modules, [module.clone(), vec![child]].concat(), folder);
        }
        modules.insert(module, source);
    }

    /// The module that defines the item of a path, as seen from `module`. `None` for other crates.
    pub(crate) fn target(&self, module: &Module, path: &[String], mut hops: u32) -> Option<Module> {
        let mut base = module.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => (base, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let is_child = self.0.contains_key(&[base.clone(), vec![first.to_owned()]].concat());
                if !is_child {
                    let known = self.0[&base].names.named.iter().find(|named| named.alias.as_deref() == Some(first))?;
                    hops = hops.checked_sub(1)?;
                    let whole = [&known.path[..], &rest[1..]].concat();
                    return if known.path == path { None } else { self.target(&base, &whole, hops) };
                }
            }
        }
        while let Some(next) = rest.first() {
            let deeper = [base.clone(), vec![next.clone()]].concat();
            if self.0.contains_key(&deeper) {
                (base, rest) = (deeper, &rest[1..]);
                continue;
            }
            let known = self.0[&base].names.named.iter().find(|named| named.alias.as_ref() == Some(next));
            if let Some(known) = known
                && hops > 0
                && let Some(target) = self.target(&base, &known.path, hops - 1)
            {
                return Some(target);
            }
            break;
        }
        Some(base)
    }
}
