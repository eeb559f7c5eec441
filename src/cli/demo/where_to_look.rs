//! The lines of the demo for another terminal. Each can be pasted as it is; a test runs all of them.

use std::io;

use super::{super::output::colour::Tone, Endpoints, story::Story};

/// Prints what to try while the demo keeps serving.
pub(super) fn print(story: &Story, endpoints: &Endpoints<'_>) -> io::Result<()> {
    let Endpoints {
        simulator,
        bridge,
        broker,
        ..
    } = endpoints;
    let (grpc, smsbridge) = (bridge.grpc, this_binary());
    story.print("\nStill serving. In another terminal:\n")?;
    let line = |about: &str, command: String| {
        let about = story.paint(Tone::Bold, &format!("# {about}"));
        story.print(format!("  {about}\n  {command}"))
    };
    line(
        "for the examples and for the lines of the documents",
        format!("export SMSBRIDGE_ADDRESS=http://{grpc}"),
    )?;
    line(
        "send, with any gRPC tool (reflection is on)",
        format!(
            "grpcurl -plaintext -d '{{\"message\":{{\"from\":\"InfoSMS\",\"destinations\":[{{\"to\":\"41793026727\"}}],\"text\":\"Hello\"}}}}' {grpc} smsbridge.v1.SmsService/SendSms"
        ),
    )?;
    line(
        "or with this binary",
        format!("{smsbridge} send --address http://{grpc} 41793026727 --text Hello"),
    )?;
    if let Some(broker) = broker {
        let (about, url) = match is_default_user(&broker.url) {
            true => ("through the broker", format!("'{}'", broker.url)),
            // Others may see the screen, or read what is pasted from it.
            false => (
                "through the broker, after: AMQP_URL=… (the value of --amqp-url, whose password is not shown)",
                "\"$AMQP_URL\"".to_owned(),
            ),
        };
        line(
            about,
            format!(
                "{smsbridge} send --amqp-url {url} --amqp-prefix {} 41793026727 --text Hello",
                broker.prefix
            ),
        )?;
    }
    line(
        "simulate a message from a phone",
        format!(
            "curl -s -X POST http://{simulator}/_sim/inbound -H 'Content-Type: application/json' -d '{{\"from\":\"41793026727\",\"to\":\"41790000000\",\"text\":\"Hi there\"}}'"
        ),
    )?;
    line(
        "list the messages that the simulator accepted",
        format!("curl -s http://{simulator}/_sim/messages"),
    )?;
    line(
        "follow the events; Ctrl-C ends it",
        format!("{smsbridge} events --address http://{grpc} --since 1h --follow"),
    )?;
    story.print(format!("\nThe phones are on http://{simulator}/_sim/."))?;
    story.print("Ctrl-C stops the demo.")
}

/// Whether the URL has the user that every broker has, with its known password.
pub(super) fn is_default_user(url: &str) -> bool {
    url.contains("://guest:guest@")
}

/// The path by which this process was started, for a shell.
pub(super) fn this_binary() -> String {
    let path = std::env::args_os()
        .next()
        .and_then(|path| path.into_string().ok())
        .unwrap_or_else(|| "smsbridge".to_owned());
    quoted(&path)
}

fn quoted(path: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+".contains(character);
    if !path.is_empty() && path.chars().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_space_can_be_pasted() {
        assert_eq!(
            quoted("target/release/smsbridge"),
            "target/release/smsbridge"
        );
        assert_eq!(
            quoted("/my dir/it's/smsbridge"),
            "'/my dir/it'\\''s/smsbridge'"
        );
    }
}
