//! Links that stay inside the project: each leads to a file that is there, and to a heading that it has.

use std::collections::{BTreeMap, BTreeSet};

use super::{Page, pages, root};

/// The anchors of a page, as those who show Markdown make them of headings.
fn anchors(page: &Page) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, u32>::new();
    let prose = page.prose();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>();
            let before = seen.entry(anchor.clone()).or_default();
            *before += 1;
            if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
        })
        .collect()
}

/// What a page links to: file, from the root, and anchor.
fn links(page: &Page) -> Vec<(String, String)> {
    let prose = page.prose();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|link| !link.starts_with("http://") && !link.starts_with("https://"));
    inside
        .map(|link| {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let mut parts: Vec<_> = page.path.split('/').collect();
            if !file.is_empty() {
                parts.pop();
                for part in file.split('/') {
                    match part {
                        ".." => drop(parts.pop().unwrap_or_else(|| panic!("{}: {link} leads out", page.path))),
                        "." | "" => {}
                        part => parts.push(part),
                    }
                }
            }
            (parts.join("/"), anchor.to_owned())
        })
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let (pages, mut wrong) = (pages(), Vec::new());
    for page in &pages {
        for (file, anchor) in links(page) {
            let target = pages.iter().find(|page| page.path == file);
            let has_anchor = || target.is_some_and(|target| anchors(target).contains(&anchor));
            if !root().join(&file).exists() || !anchor.is_empty() && !has_anchor() {
                wrong.push(format!("{}: {file}#{anchor}", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let pages = pages();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut queue = vec!["README.md".to_owned()];
    while let Some(path) = queue.pop() {
        let Some(page) = pages.iter().find(|page| page.path == path) else { continue };
        for (file, _) in links(page) {
            // A folder is shown with its README.
            for file in [format!("{file}/README.md"), file] {
                if reached.insert(file.clone()) {
                    queue.push(file);
                }
            }
        }
    }
    let lost: Vec<_> = pages.iter().filter(|page| !reached.contains(&page.path)).map(|page| &page.path).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_heading_has_the_anchor_that_those_who_show_markdown_give_it() {
    let text = "# A `b`, c: \"d\"\n```sh\n# no heading\n```\n## Same\n## Same\n".to_owned();
    let page = Page { path: "docs/page.md".to_owned(), text };
    assert_eq!(anchors(&page), ["a-b-c-d", "same", "same-1"].map(str::to_owned).into());
    let text = "[a](../README.md#x) [b](#y) [c](https://example.com) [d](guide/z.md)".to_owned();
    let page = Page { path: "docs/page.md".to_owned(), text };
    let wanted = [("README.md", "x"), ("docs/page.md", "y"), ("docs/guide/z.md", "")];
    assert_eq!(links(&page), wanted.map(|(file, anchor)| (file.to_owned(), anchor.to_owned())));
}
