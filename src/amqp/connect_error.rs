//! Tells why no session could be opened, with the remedy: an unreachable broker, TLS, the login, or the vhost.
//!
//! Neighbours: `session` opens sessions; `status` logs the cause.

use std::io;

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    uri::{AMQPScheme, AMQPUri},
};

use super::AmqpError;

/// What a refusal contains when the user may not use the vhost. With a limit of connections, there is more after it.
const NO_PERMISSION: &str = "refused for user";
const NO_VHOST: &str = "not found";
const LIMIT: &str = "limit";

/// The cause of an error while a connection was opened. `address` is host, port and vhost.
pub(super) fn connect_error(uri: &AMQPUri, address: &str, error: &lapin::Error) -> AmqpError {
    let refused = |cause, problem: String| AmqpError::Refused {
        cause,
        address: address.to_owned(),
        problem,
    };
    match error.kind() {
        ErrorKind::IOError(error) => io_error(uri, address, error),
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                let mut problem = "the user or password of amqp.url is refused".to_owned();
                let is_local = matches!(
                    uri.authority.host.as_str(),
                    "localhost" | "127.0.0.1" | "::1"
                );
                if uri.authority.userinfo.username == "guest" && !is_local {
                    problem.push_str(" (`guest` may log in from the broker's own host only)");
                }
                refused("login", problem)
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                let (vhost, said) = (&uri.vhost, protocol.get_message().as_str());
                if said.contains(LIMIT) {
                    refused("refused", format!("it takes no more connections: {said}"))
                } else if said.contains(NO_PERMISSION) {
                    let problem = format!(
                        "the user of amqp.url has no access to the vhost `{vhost}`: grant it with rabbitmqctl set_permissions"
                    );
                    refused("vhost", problem)
                } else if said.contains(NO_VHOST) {
                    let problem = format!(
                        "the vhost `{vhost}` does not exist; amqp.url ends with the vhost, in which `/` is written %2f"
                    );
                    refused("vhost", problem)
                } else {
                    refused("refused", format!("it refuses the connection: {said}"))
                }
            }
            _ => refused("refused", format!("it refuses the connection: {protocol}")),
        },
        _ => unreachable(address, error.to_string()),
    }
}

fn io_error(uri: &AMQPUri, address: &str, error: &io::Error) -> AmqpError {
    let detail = error.to_string();
    let tls = |problem: String| AmqpError::Refused {
        cause: "tls",
        address: address.to_owned(),
        problem,
    };
    let is_tls = uri.scheme == AMQPScheme::AMQPS;
    let is_closed = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    );
    if detail.contains("invalid peer certificate") {
        tls(format!(
            "its certificate is not trusted: {detail}; it must be issued for the host of amqp.url, by a public CA or one in \
             amqp.tls_ca_file"
        ))
    } else if detail.contains("CertificateRequired") {
        tls(
            "it requires a client certificate: set amqp.tls_cert_file and amqp.tls_key_file"
                .to_owned(),
        )
    } else if is_tls && error.kind() == io::ErrorKind::InvalidData {
        tls(format!(
            "it does not speak TLS there ({detail}): amqps:// is for a TLS port (5671), amqp:// for a plain one (5672)"
        ))
    } else if is_closed && !is_tls {
        unreachable(
            address,
            format!(
                "it closed the connection at once ({detail}); a TLS port (5671) needs amqps://"
            ),
        )
    } else {
        unreachable(address, detail)
    }
}

pub(super) fn unreachable(address: &str, detail: String) -> AmqpError {
    AmqpError::Unreachable {
        address: address.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn text(url: &str, error: impl Into<lapin::Error>) -> (&'static str, String) {
        let uri: AMQPUri = url.parse().unwrap();
        let error = connect_error(&uri, "rabbit:5672 (vhost /)", &error.into());
        (error.cause(), error.to_string())
    }

    #[test]
    fn each_cause_has_its_remedy() {
        let io = |kind, detail: &str| io::Error::new(kind, detail.to_owned());
        let amqp = |kind: AMQPErrorKind, detail: &str| {
            lapin::Error::from(ErrorKind::ProtocolError(AMQPError::new(
                kind,
                detail.into(),
            )))
        };
        let untrusted = "invalid peer certificate: UnknownIssuer";
        let no_tls = "received corrupt message of type InvalidContentType";
        let login: AMQPErrorKind = AMQPSoftError::ACCESSREFUSED.into();
        let vhost: AMQPErrorKind = AMQPHardError::NOTALLOWED.into();
        let full = "NOT_ALLOWED - node connection limit (1) is reached";
        let full_for_user = "NOT_ALLOWED - access to vhost 'sms' refused for user 'me': connection limit (1) is reached";
        let down = "NOT_ALLOWED - vhost 'sms' is down";
        let no_access = "NOT_ALLOWED - access to vhost 'sms' refused for user 'guest'";
        for ((cause, text), expected, part) in [
            (
                text("amqps://rabbit", io(io::ErrorKind::InvalidData, untrusted)),
                "tls",
                "certificate is not trusted",
            ),
            (
                text("amqps://rabbit", io(io::ErrorKind::InvalidData, no_tls)),
                "tls",
                "amqps:// is for a TLS port",
            ),
            (
                text(
                    "amqp://rabbit",
                    io(io::ErrorKind::ConnectionAborted, "gone"),
                ),
                "away",
                "needs amqps://",
            ),
            (
                text(
                    "amqp://rabbit",
                    io(io::ErrorKind::ConnectionRefused, "refused"),
                ),
                "away",
                "is it running",
            ),
            (
                text("amqp://rabbit", amqp(login, "Login was refused")),
                "login",
                "`guest` may log in from the broker's own host only",
            ),
            (
                text(
                    "amqp://rabbit/sms",
                    amqp(vhost.clone(), "vhost sms not found"),
                ),
                "vhost",
                "the vhost `sms` does not exist",
            ),
            (
                text("amqp://rabbit/sms", amqp(vhost.clone(), no_access)),
                "vhost",
                "set_permissions",
            ),
            (
                text("amqp://rabbit/sms", amqp(vhost.clone(), full)),
                "refused",
                "takes no more connections",
            ),
            (
                text("amqp://rabbit/sms", amqp(vhost.clone(), full_for_user)),
                "refused",
                "takes no more connections",
            ),
            (
                text("amqp://rabbit/sms", amqp(vhost, down)),
                "refused",
                "is down",
            ),
        ] {
            assert!(cause == expected && text.contains(part), "{cause} {text}");
        }
    }
}
