//! The documentation says what is: its links lead somewhere, its commands run, its configs are good, its words exist.

mod commands;
mod configs;
mod links;
mod peers;
mod troubles;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A page by its path from the root.
struct Page {
    path: String,
    text: String,
}

/// All pages for people.
fn pages() -> Vec<Page> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|e| e == "md") {
                into.push(path);
            }
        }
    }
    let mut all = vec![root().join("README.md")];
    all.extend(Some(root().join("CONTRIBUTING.md")).filter(|path| path.exists()));
    walk(&root().join("docs"), &mut all);
    walk(&root().join("deploy"), &mut all);
    let page = |path: PathBuf| Page {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
    };
    all.into_iter().map(page).collect()
}

fn page(path: &str) -> Page {
    pages().into_iter().find(|page| page.path == path).unwrap_or_else(|| panic!("no {path}"))
}

/// A fenced block.
struct Block {
    language: String,
    text: String,
}

impl Page {
    /// Its fenced blocks, without the blanks that the fence is indented by.
    fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open) = (Vec::new(), None::<(usize, Block)>);
        for line in self.text.lines() {
            let indent = line.len() - line.trim_start().len();
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    open = Some((indent, Block { language: language.to_owned(), text: String::new() }));
                }
                (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
                (Some((indent, block)), None) => {
                    block.text.push_str(line.get(*indent..).unwrap_or_default());
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.path);
        blocks
    }

    /// Its text outside of fenced blocks.
    fn prose(&self) -> String {
        let mut inside = false;
        let mut keep = |line: &&str| {
            let is_fence = line.trim_start().starts_with("```");
            inside ^= is_fence;
            !inside && !is_fence
        };
        self.text.lines().filter(|line| keep(line)).collect::<Vec<_>>().join("\n")
    }

    /// What stands between backticks in it.
    fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
    }
}
