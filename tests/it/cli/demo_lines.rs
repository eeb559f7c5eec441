//! The lines that `smsbridge demo` prints for another terminal, pasted into a shell.

use std::net::TcpListener;

use tokio::process::Child;

use super::*;
use crate::support::{
    broker::TestBroker,
    external_programs::{GRPC_TOOLS, Python},
};

/// Time limit for other tests to give a port back.
const PORT_DEADLINE: Duration = Duration::from_secs(60);

/// Reads stdout until the last line of the demo.
async fn printed(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut all = String::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            all.push_str(&line);
            all.push('\n');
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect(&all);
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    all
}

/// Takes ports. Other tests have them for a while; what another process has for longer stays taken by it.
async fn take_ports<const N: usize>(ports: [u16; N]) -> Vec<TcpListener> {
    let mut taken = Vec::new();
    for port in ports {
        let listener = async {
            loop {
                match TcpListener::bind(("127.0.0.1", port)) {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        taken.extend(tokio::time::timeout(PORT_DEADLINE, listener).await);
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_demo_works_as_printed() {
    let (broker, _node) = TestBroker::start_alone().await;
    let taken = take_ports([50051, 8080, 8090, 9090]).await;
    let python = Python::with(
        std::path::Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/examples/python/requirements.txt"
        )),
        GRPC_TOOLS,
    )
    .await;
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_smsbridge"));
    let folder = binary.parent().unwrap();
    let mut demo = Command::new("./smsbridge");
    let mut demo = demo
        .current_dir(folder)
        .args(["demo", "--amqp-url", &broker.url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = printed(&mut demo).await;
    let address = broker
        .url
        .split('@')
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    assert!(
        said.contains(&format!("broker           {address}")),
        "{said}"
    );
    for port in [50051, 8080, 8090, 9090] {
        assert!(said.contains(&format!("port {port} is taken")), "{said}");
    }
    let (_, to_paste) = said.split_once("In another terminal:").expect(&said);
    let commands: Vec<_> = to_paste
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .collect();
    let kinds = [
        "export ",
        "grpcurl ",
        "./smsbridge send ",
        "./smsbridge events ",
        "curl ",
    ];
    for kind in kinds {
        assert!(
            commands.iter().any(|line| line.starts_with(kind)),
            "{kind} {said}"
        );
    }
    assert!(
        commands.iter().any(|line| line.contains("--amqp-url")),
        "{said}"
    );
    let exported = commands[0];
    assert!(exported.starts_with("export SMSBRIDGE_ADDRESS="), "{said}");
    let path = format!(
        "{}:{}",
        python.folder().display(),
        std::env::var("PATH").unwrap()
    );
    for command in &commands {
        // Following the events has no end.
        let endless = command.contains("--follow");
        let line = match endless {
            true => format!("{exported}; timeout 15 {command}"),
            false => format!("{exported}; {command}"),
        };
        let ended = end(Command::new("sh")
            .args(["-c", &line])
            .current_dir(folder)
            .env("PATH", &path)
            .kill_on_drop(true))
        .await;
        let expected = if endless { 124 } else { 0 };
        assert_eq!(
            ended.status, expected,
            "{command}\n{}{}",
            ended.stdout, ended.stderr
        );
        if command.contains("SendSms") {
            assert!(
                ended.stdout.contains("OUTCOME_ACCEPTED"),
                "{}",
                ended.stdout
            );
        }
        if command.contains(" send ") {
            assert!(ended.stdout.contains("accepted"), "{}", ended.stdout);
        }
        if endless {
            assert!(
                ended.stdout.contains("report.delivered"),
                "{}",
                ended.stdout
            );
        }
    }
    drop(taken);
}

#[tokio::test]
async fn the_demo_prints_one_line_if_its_broker_is_not_up() {
    let began = std::time::Instant::now();
    let url = "amqp://guest:guest@127.0.0.1:1/%2f";
    let ended = run(["demo", "--amqp-url", url]).await.expect(1);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("127.0.0.1:1"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert!(began.elapsed() < Duration::from_secs(15));
}
