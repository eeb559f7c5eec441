//! The fenced lines of the examples' READMEs and of docs/RABBITMQ.md, taken from the documents and run as a reader pastes
//! them, in their order.
//!
//! The info string of a fence says what happens to it: `sh` runs to its end; `sh background` runs until the next such fence or
//! the end of the document; `python` and `js` are programs; `text` is not run. A line that ends with `# exit status 1` must
//! fail. `needs=WHAT` would mark a fence that tests cannot run; these documents have none.

mod fence;
mod permissions;
mod terminal;

use std::collections::BTreeSet;

use smsbridge::amqp::Topology;

use self::{
    fence::{Fence, fences},
    terminal::Terminal,
};
use crate::support::{broker::TestBroker, document::read};

/// The fences of a document. Each can be run.
fn runnable(path: &str) -> Vec<Fence> {
    let document = read(path).unwrap_or_else(|| panic!("{path} is missing"));
    let fences = fences(&document);
    let needing: Vec<_> = fences.iter().filter(|fence| fence.needs).collect();
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
