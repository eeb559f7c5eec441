//! The fenced code of a Markdown document.

/// How a fence is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Shell lines that end.
    Shell,
    /// Shell lines that keep running.
    Background,
    /// A Python program.
    Python,
    /// An ECMAScript module.
    JavaScript,
    /// The contents of a file.
    File(String),
    /// Shown to the reader only.
    Text,
}

#[derive(Debug)]
pub(super) struct Fence {
    /// The number of its first line in the document.
    pub(super) line: usize,
    pub(super) kind: Kind,
    /// What the fence needs that tests do not have, such as a cluster.
    pub(super) needs: Option<String>,
    pub(super) text: String,
}

/// The fences of a document, in their order. Panics at an info string with an unknown word.
pub(super) fn fences(document: &str) -> Vec<Fence> {
    let mut fences: Vec<Fence> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(document.lines()) {
        match (line.strip_prefix("```"), open) {
            (Some(info), false) => {
                open = true;
                fences.push(begin(number, info));
            }
            (Some(_), true) => open = false,
            (None, true) => {
                let fence = fences.last_mut().unwrap();
                fence.text.push_str(line);
                fence.text.push('\n');
            }
            (None, false) => {}
        }
    }
    assert!(!open, "the last fence does not end");
    fences
}

fn begin(number: usize, info: &str) -> Fence {
    let words: Vec<_> = info.split_whitespace().collect();
    let (needs, words): (Vec<_>, Vec<_>) = words
        .into_iter()
        .partition(|word| word.starts_with("needs="));
    let kind = match words.as_slice() {
        ["sh"] => Kind::Shell,
        ["sh", "background"] => Kind::Background,
        ["python"] => Kind::Python,
        ["js"] => Kind::JavaScript,
        ["text" | "toml" | "yaml" | "json"] => Kind::Text,
        [_, file] if let Some(name) = file.strip_prefix("file=") => Kind::File(name.to_owned()),
        _ => panic!("line {number}: the test does not know how to run ```{info}"),
    };
    Fence {
        line: number + 1,
        kind,
        needs: needs.first().map(|word| word["needs=".len()..].to_owned()),
        text: String::new(),
    }
}
