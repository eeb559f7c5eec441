//! The fenced lines of the documents, taken from them and run as a reader pastes them, in their order.
//!
//! The info string of a fence says what happens to it: `sh` runs to its end; `sh background` runs until the next such fence or
//! the end of the document; `python` and `js` are programs; `file=NAME` is written to a file; `text`, `toml` and `yaml` are not
//! run. A line that ends with `# exit status 1` must fail. `needs=cluster`, `needs=docker` or `needs=account` marks a fence that
//! tests cannot run; they are counted.

mod fence;
mod permissions;
mod terminal;

use std::{collections::BTreeSet, path::Path};

use smsbridge::amqp::Topology;

use self::{
    fence::{Fence, fences},
    terminal::Terminal,
};
use crate::support::{
    broker::TestBroker,
    document::read,
    external_programs::{GRPC_TOOLS, Python},
};

/// The fences of a document. Each can be run.
fn runnable(path: &str) -> Vec<Fence> {
    let document = read(path).unwrap_or_else(|| panic!("{path} is missing"));
    let fences = fences(&document);
    let needing: Vec<_> = fences
        .iter()
        .filter(|fence| fence.needs.is_some())
        .collect();
    assert!(needing.is_empty(), "{path}: {needing:?}");
    fences
}

/// Pastes the fences, and panics at the first line that does not do what the document says.
async fn paste_all(terminal: &mut Terminal, path: &str, fences: &[Fence]) {
    for fence in fences {
        if let Err(output) = terminal.paste(fence).await {
            panic!("{path}, the fence in line {}:\n{output}", fence.line);
        }
    }
}

async fn run_document(path: &str, at_least: usize) {
    let fences = runnable(path);
    assert!(fences.len() >= at_least, "{path}: {fences:?}");
    paste_all(&mut Terminal::open(), path, &fences).await;
}

#[tokio::test]
async fn python_readme_can_be_pasted_in_a_row() {
    run_document("examples/python/README.md", 4).await;
}

#[tokio::test]
async fn node_readme_can_be_pasted_in_a_row() {
    run_document("examples/node/README.md", 4).await;
}

/// After the lines of the document, its users may do what it says, and the messages on the broker have no property or header
/// that it leaves out.
#[tokio::test]
async fn rabbitmq_document_can_be_pasted_in_a_row_and_names_everything() {
    let path = "docs/RABBITMQ.md";
    let fences = runnable(path);
    assert!(fences.len() >= 14, "{fences:?}");
    let (stop, lines) = fences.split_last().unwrap();
    assert_eq!(stop.text.trim(), "scripts/broker stop");
    let mut terminal = Terminal::open();
    paste_all(&mut terminal, path, lines).await;
    terminal.stop_background().await;
    permissions::users_may_do_what_the_document_says(&terminal).await;
    paste_all(&mut terminal, path, std::slice::from_ref(stop)).await;
}

#[tokio::test]
async fn rabbitmq_document_names_every_exchange_and_queue() {
    let document = read("docs/RABBITMQ.md").unwrap();
    let config = TestBroker {
        url: "amqp://127.0.0.1".into(),
        prefix: "smsbridge".into(),
    }
    .config();
    let topology = Topology::new(&config);
    let queues = topology.queues().into_iter().map(|queue| queue.name);
    let exchanges = topology
        .exchanges()
        .into_iter()
        .map(|exchange| exchange.name);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let words = document.split(|c| !is_name(c));
    let named: BTreeSet<_> = words.map(|word| word.trim_end_matches('.')).collect();
    for name in queues.chain(exchanges) {
        assert!(
            named.contains(name.as_str()),
            "{name} is not in the document"
        );
    }
}

/// The documents whose lines the tests above do not run, and how many of their fences need what tests do not have.
const OTHER_DOCUMENTS: [(&str, usize); 6] = [
    ("README.md", 0),
    ("docs/EVENTS.md", 0),
    ("docs/OPERATIONS.md", 2),
    ("docs/SIMULATOR.md", 0),
    ("charts/smsbridge/README.md", 1),
    ("crates/infobip-simulator/README.md", 0),
];

#[tokio::test]
async fn other_documents_can_be_pasted_in_a_row() {
    let requirements =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/requirements.txt");
    let grpc_tools = Python::with(&requirements, GRPC_TOOLS).await;
    for (path, expected) in OTHER_DOCUMENTS {
        let fences = fences(&read(path).unwrap_or_else(|| panic!("{path} is missing")));
        let (needing, lines): (Vec<_>, Vec<_>) =
            fences.into_iter().partition(|fence| fence.needs.is_some());
        assert_eq!(needing.len(), expected, "{path}: {needing:?}");
        for fence in needing {
            let needs = fence.needs.unwrap();
            assert!(
                ["account", "cluster", "docker"].contains(&needs.as_str()),
                "{path}: {needs}"
            );
        }
        let mut terminal = Terminal::open();
        terminal.add_to_path(&grpc_tools.folder());
        paste_all(&mut terminal, path, &lines).await;
    }
}

/// No document has lines that no test runs.
#[test]
fn every_document_is_pasted() {
    let tested = [
        "docs/RABBITMQ.md",
        "examples/python/README.md",
        "examples/node/README.md",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "",
        "docs",
        "charts/smsbridge",
        "crates/infobip-simulator",
        "examples/python",
        "examples/node",
    ];
    for folder in folders {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let is_tested =
                tested.contains(&name) || OTHER_DOCUMENTS.iter().any(|(tested, _)| *tested == name);
            if path.extension().is_some_and(|end| end == "md") && !is_tested {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(
                    !text.contains("```sh"),
                    "{name} has lines that no test runs"
                );
            }
        }
    }
}

/// Ctrl-C ends what runs in the foreground only: a line that starts something in the background also ends it.
#[test]
fn no_pasted_line_leaves_a_process_behind() {
    let documents = [
        "docs/RABBITMQ.md",
        "examples/python/README.md",
        "examples/node/README.md",
    ];
    let others = OTHER_DOCUMENTS.iter().map(|(path, _)| *path);
    let mut found = 0;
    for path in documents.into_iter().chain(others) {
        for fence in fences(&read(path).unwrap()) {
            if fence.text.lines().any(|line| line.ends_with(" &")) {
                found += 1;
                assert!(fence.text.contains("; kill $!"), "{path}: {fence:?}");
            }
        }
    }
    assert!(found >= 3, "{found}");
}

/// The runner notices a line that fails, a line that should fail, and a program that fails.
#[tokio::test]
async fn lines_that_do_not_do_what_the_document_says_are_noticed() {
    let mut terminal = Terminal::open();
    let document = "```sh\ntrue\nfalse  # exit status 1\nexport NAME=value\n```\n\n```sh\ntest \"$NAME\" = value\n```\n";
    for fence in fences(document) {
        terminal.paste(&fence).await.unwrap();
    }
    for broken in [
        "false\ntrue",
        "true  # exit status 1",
        "test \"$NAME\" = other",
    ] {
        let [fence] = fences(&format!("```sh\n{broken}\n```\n"))
            .try_into()
            .unwrap();
        assert!(terminal.paste(&fence).await.is_err(), "{broken}");
    }
}
