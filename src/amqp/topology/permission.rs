//! Explains a refused declaration or binding: which permission on which name is missing, and the command that grants it.
//!
//! RabbitMQ checks `configure` for what is declared, `read` for a queue that dead-letters and for an exchange that is bound, `write` for
//! a queue or an exchange that is bound and for the exchange that takes over. Newer versions name the permission, 3.10 names the queue or exchange only.
//! Neighbour: `declare` asks for it.

use super::Topology;

/// The step that the broker refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Declare {
        name: &'a str,
    },
    Bind {
        /// A queue or an exchange.
        destination: &'a str,
        exchange: &'a str,
    },
}

impl Topology {
    /// The problem and its remedy. `detail` is the text of the broker.
    pub(super) fn missing_permission(&self, step: Step<'_>, detail: &str) -> String {
        let user = between(detail, "for user '", "'").unwrap_or("USER");
        let vhost = between(detail, "in vhost '", "'").unwrap_or("/");
        let what = match step {
            Step::Declare { name } => format!("declare `{name}`"),
            Step::Bind {
                destination,
                exchange,
            } => format!("bind `{destination}` to `{exchange}`"),
        };
        let refused = between(detail, "access to queue '", "'")
            .or_else(|| between(detail, "access to exchange '", "'"));
        let refused = refused.unwrap_or(match step {
            Step::Declare { name } => name,
            Step::Bind { destination, .. } => destination,
        });
        let permission = permission(step, refused, detail);
        let own = format!("^{}\\.", self.prefix.replace('.', "\\."));
        format!(
            "the user `{user}` may not {what}: it needs the permission {permission} for `{refused}`. What the bridge's user needs is \
             granted by: rabbitmqctl set_permissions -p '{vhost}' '{user}' '{own}' '^({}.+|amq\\.default)$' '{own}' \
             (docs/RABBITMQ.md#permissions; smsbridge topology prints all names). A user who shall not configure needs \
             amqp.topology = \"passive\" and an operator who declares: smsbridge topology --declare",
            own.trim_start_matches('^')
        )
    }
}

fn permission(step: Step<'_>, refused: &str, detail: &str) -> &'static str {
    let named = ["configure", "write", "read"]
        .into_iter()
        .find(|permission| detail.contains(&format!("{permission} access to ")));
    named.unwrap_or(match step {
        Step::Declare { name } if name == refused => "configure (and read, if it dead-letters)",
        Step::Declare { .. } => "write",
        Step::Bind { destination, .. } if destination == refused => "write",
        Step::Bind { .. } => "read",
    })
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn topology(prefix: &str) -> Topology {
        Topology::new(&config::Amqp::with_prefix(prefix))
    }

    #[test]
    fn the_missing_permission_is_named_as_the_broker_names_it() {
        let declare = Step::Declare { name: "sms.dead" };
        let bind = Step::Bind {
            destination: "sms.dead",
            exchange: "sms.events",
        };
        for (step, detail, expected) in [
            (
                declare,
                "access to queue 'sms.dead' in",
                "configure (and read, if it dead-letters) for `sms.dead`",
            ),
            (
                declare,
                "access to exchange 'sms.retry' in",
                "write for `sms.retry`",
            ),
            (
                declare,
                "read access to queue 'sms.dead' in",
                "permission read for `sms.dead`",
            ),
            (
                bind,
                "access to queue 'sms.dead' in",
                "write for `sms.dead`",
            ),
            (
                bind,
                "access to exchange 'sms.events' in",
                "read for `sms.events`",
            ),
        ] {
            let detail = format!("ACCESS_REFUSED - {detail} vhost 'v' refused for user 'u'");
            let problem = topology("sms").missing_permission(step, &detail);
            assert!(problem.contains(expected), "{detail}: {problem}");
        }
    }

    #[test]
    fn the_remedy_grants_what_the_document_says() {
        let document = include_str!("../../../docs/RABBITMQ.md");
        let detail = "access to queue 'smsbridge.dead' in vhost '/' refused for user 'smsbridge'";
        let step = Step::Declare {
            name: "smsbridge.dead",
        };
        let problem = topology("smsbridge").missing_permission(step, detail);
        let (_, permissions) = problem.split_once("-p '/' 'smsbridge' ").unwrap();
        let (permissions, _) = permissions.split_once(" (docs").unwrap();
        let line = format!("rabbitmqctl set_permissions smsbridge {permissions}\n");
        assert!(document.contains(&line), "{line}");
        let dotted = topology("a.b").missing_permission(step, detail);
        assert!(dotted.contains("'^a\\.b\\.'"), "{dotted}");
    }
}
