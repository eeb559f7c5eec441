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

/// What a refusal of the vhost contains when the vhost exists.
const NO_PERMISSION: &str = "refused for user";

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
                if uri.authority.userinfo.username == "guest" {
                    problem.push_str(" (`guest` may log in from the broker's own host only)");
                }
                refused("login", problem)
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                let vhost = &uri.vhost;
                let problem = if protocol.get_message().as_str().contains(NO_PERMISSION) {
                    format!(
                        "the user of amqp.url has no access to the vhost `{vhost}`: grant it with rabbitmqctl set_permissions"
                    )
                } else {
                    format!(
                        "the vhost `{vhost}` does not exist; amqp.url ends with the vhost, in which `/` is written %2f"
                    )
                };
                refused("vhost", problem)
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
            "its certificate is not trusted: {detail}; it must be issued by a public CA for the host of amqp.url"
        ))
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
