//! The project's own files, for tests that hold documents against what they speak of.

use std::path::Path;

/// A file of the project.
pub fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The lines of a Markdown table as cells, without its heading. `text` begins before the table and ends with it.
pub fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// What stands between backticks.
pub fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether `theme::test` (in `tests/it/`) or `module::…::tests::test` (beside the code) is a test.
pub fn test_exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
    let file = match module.strip_suffix("::tests") {
        Some(module) => format!("src/{}.rs", module.replace("::", "/")),
        None => format!("tests/it/{}.rs", module.replace("::", "/")),
    };
    let Some(source) = read(&file) else {
        return false;
    };
    let before: Vec<_> = source.split(&format!("fn {name}(")).collect();
    let attributes = before
        .first()
        .unwrap_or(&"")
        .lines()
        .rev()
        .skip(1)
        .take(4)
        .collect::<Vec<_>>();
    before.len() == 2
        && attributes
            .iter()
            .any(|line| line.trim().starts_with("#[") && line.contains("test"))
}
