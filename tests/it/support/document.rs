//! Reads files of the repository, for tests that check documents against the code.

use std::path::Path;

pub fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// The root of the workspace, also for tests of its other crates.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").exists())
        .expect("the workspace has a Cargo.lock")
}

/// The rows of the first Markdown table in `text` as cells, without its heading.
pub fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// The texts between backticks.
pub fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether `test` names a test: `module::test` in `tests/it/`, or `module::…::tests::test` beside the code. The prefix
/// `simulator::` selects the crate `infobip-simulator`.
pub fn test_exists(test: &str) -> bool {
    test_body(test).is_some()
}

/// The text of such a test and of the functions in its file that it calls; `None` if it does not exist.
pub fn test_body(test: &str) -> Option<String> {
    let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
    let (root, module) = match module.strip_prefix("simulator::") {
        Some(module) => ("crates/infobip-simulator/", module),
        None => ("", module),
    };
    let (folder, module) = match module.strip_suffix("::tests") {
        Some(module) => ("src", module),
        None => ("tests/it", module),
    };
    let module = module.replace("::", "/");
    let declared = format!("fn {name}(");
    // Unit tests of a large module have a file of their own.
    let files = [format!("{module}.rs"), format!("{module}/tests.rs")];
    let source = files
        .iter()
        .filter_map(|file| read(&format!("{root}{folder}/{file}")))
        .find(|source| source.contains(&declared))?;
    let (before, _) = source.split_once(&declared)?;
    let attributes = before.lines().rev().skip(1).take(4);
    let is_test = attributes
        .map(str::trim)
        .any(|line| line.starts_with("#[") && line.contains("test"));
    if !is_test {
        return None;
    }
    let mut body = function(&source, name)?;
    let functions = source.split("fn ").skip(1);
    for name in functions.filter_map(|after| after.split(['(', '<']).next()) {
        if body.contains(&format!("{name}(")) {
            body.push_str(&function(&source, name).unwrap_or_default());
        }
    }
    Some(body)
}

/// The text of a function. It ends at the closing brace with the indentation of its first line.
fn function(source: &str, name: &str) -> Option<String> {
    let begins = |start: &str| source.split_once(start);
    let (before, after) =
        begins(&format!("fn {name}(")).or_else(|| begins(&format!("fn {name}<")))?;
    let indent: String = before
        .lines()
        .last()?
        .chars()
        .take_while(|c| c.is_whitespace())
        .collect();
    let (body, _) = after.split_once(&format!("\n{indent}}}\n"))?;
    Some(body.to_owned())
}
