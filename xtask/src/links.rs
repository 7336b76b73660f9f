//! Checks links between the Markdown files of the checkout, and from them to other files. It needs
//! no network: links to the web are not followed.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A Markdown file, reduced to its links and anchors.
pub(crate) struct Page {
    /// Relative to the root of the checkout.
    path: PathBuf,
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Page {
    /// Reads a file's text.
    pub(crate) fn new(path: PathBuf, text: &str) -> Self {
        let mut page = Self { path, links: Vec::new(), anchors: BTreeSet::new() };
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                _ => {}
            }
        }
        page
    }

    /// Anchors as mdBook and GitHub make them: a repeated heading gets a number.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let id: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        let numbered = (1..).map(|number| format!("{id}-{number}"));
        let free = std::iter::once(id.clone()).chain(numbered).find(|id| !self.anchors.contains(id));
        self.anchors.extend(free);
    }
}

/// The broken links of these pages, one line each.
pub(crate) fn broken(pages: &[Page], root: &Path, chapters: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for page in pages {
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            if let Some(reason) = fault(page, link, pages, root, chapters) {
                faults.push(format!("{}: {link}: {reason}", page.path.display()));
            }
        }
    }
    faults
}

fn fault(page: &Page, link: &str, pages: &[Page], root: &Path, chapters: &Path) -> Option<&'static str> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let Some(target) = resolved(&page.path, file) else { return Some("leads out of the checkout") };
    if !root.join(&target).exists() {
        return Some("there is no such file");
    }
    let markdown = target.extension().is_some_and(|end| end == "md");
    if markdown && page.path.starts_with(chapters) && !target.starts_with(chapters) {
        return Some("mdBook turns it into a link to a page of the book that does not exist; write the path as text");
    }
    let known = |page: &Page| page.path == target && page.anchors.contains(anchor);
    (!anchor.is_empty() && !pages.iter().any(known)).then_some("there is no such heading")
}

/// Chapters missing from the table of contents, which mdBook silently omits.
pub(crate) fn unlisted(pages: &[Page], chapters: &Path) -> Vec<String> {
    let summary = chapters.join("SUMMARY.md");
    let contents = pages.iter().find(|page| page.path == summary);
    let listed: BTreeSet<_> =
        contents.into_iter().flat_map(|page| &page.links).filter_map(|link| resolved(&summary, link)).collect();
    let in_book = pages.iter().filter(|page| page.path.starts_with(chapters) && page.path != summary);
    let missing = in_book.filter(|page| !listed.contains(&page.path));
    missing.map(|page| format!("{}: not in {}", page.path.display(), summary.display())).collect()
}

/// The target of a page's link, relative to the root; the page itself if the link names no file.
fn resolved(page: &Path, file: &str) -> Option<PathBuf> {
    if file.is_empty() {
        return Some(page.to_owned());
    }
    let mut path = page.parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(file).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Page {
        Page::new(path.into(), text)
    }

    /// The problems with a link, placed in a chapter of a checkout with a few files.
    fn faults(link: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("docs/src")).unwrap();
        for file in ["README.md", "LICENSE", "docs/src/a.md", "docs/src/b.md"] {
            std::fs::write(root.path().join(file), "").unwrap();
        }
        let pages = [
            page("docs/src/a.md", &format!("# The `one` title, again\n\n[text]({link})")),
            page("docs/src/b.md", "# B\n## Twice\n## Twice"),
            page("README.md", "# Readme"),
        ];
        broken(&pages, root.path(), Path::new("docs/src"))
    }

    #[test]
    fn a_link_to_a_file_or_a_heading_that_is_there_is_good() {
        for link in ["b.md", "./b.md#twice-1", "#the-one-title-again", "../../LICENSE", "https://example.com/x#y"] {
            assert_eq!(faults(link), [""; 0], "{link}");
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told_with_its_page_and_reason() {
        for (link, reason) in [
            ("c.md", "no such file"),
            ("b.md#thrice", "no such heading"),
            ("#another-title", "no such heading"),
            ("../../../elsewhere", "out of the checkout"),
            ("/etc/passwd", "out of the checkout"),
            ("../../README.md", "mdBook"),
        ] {
            let told = faults(link);
            assert!(told.len() == 1 && told[0].starts_with("docs/src/a.md: ") && told[0].contains(reason), "{told:?}");
        }
    }

    #[test]
    fn a_chapter_that_the_contents_do_not_list_is_told() {
        let pages = [page("docs/src/SUMMARY.md", "- [A](a.md)"), page("docs/src/a.md", ""), page("docs/src/b.md", "")];
        let told = unlisted(&pages, Path::new("docs/src"));
        assert!(told.len() == 1 && told[0].starts_with("docs/src/b.md: "), "{told:?}");
    }
}
