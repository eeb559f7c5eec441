//! Checks `log.filter`.
//!
//! tracing takes every word that is no level for the name of a target, and so a misspelt level or target turns the log off without
//! an error. Invariant: each entry is a level, or a target and a level, and no target is a misspelt `smsbridge`. Neighbours:
//! `ops::telemetry` applies the filter.

use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The first part of every target of the bridge.
const TARGET: &str = "smsbridge";
/// How similar a target must be to [`TARGET`] to count as misspelt.
const MISSPELT: f64 = 0.7;
/// The same for a level.
const MISSPELT_LEVEL: f64 = 0.5;

/// A filter that cannot be what was meant: the problem and the remedy.
pub(super) fn mistake(filter: &str) -> Option<(String, String)> {
    let forms = "write a level (off, error, warn, info, debug, trace), and for single targets TARGET=LEVEL, as in \
                 `info,smsbridge=debug`, without spaces";
    let found = entries(filter).find_map(mistake_of_entry);
    let found = found.or_else(|| {
        let error = EnvFilter::try_new(filter).err()?;
        Some((format!("is not a log filter: {error}"), None))
    });
    found.map(|(problem, nearest)| match nearest {
        Some(nearest) => (problem, format!("did you mean `{nearest}`? Else {forms}")),
        None => (problem, forms.to_owned()),
    })
}

/// The entries between commas that select neither spans nor fields, whose names tracing alone knows.
fn entries(filter: &str) -> impl Iterator<Item = &str> {
    let has_spans = filter.contains(['[', '{']);
    let entries = filter.split(',');
    entries.filter(move |entry| !has_spans && !entry.is_empty())
}

/// The problem of an entry, and what was probably meant.
fn mistake_of_entry(entry: &str) -> Option<(String, Option<String>)> {
    match entry.split_once('=') {
        None if is_level(entry) => None,
        None => {
            let nearest = nearest_level(entry).map(str::to_owned);
            let nearest =
                nearest.or_else(|| entry.starts_with(TARGET).then(|| format!("{entry}=debug")));
            Some((format!("`{entry}` is not a level"), nearest))
        }
        Some((target, level)) if !is_level(level) => {
            let nearest = nearest_level(level).map(|level| format!("{target}={level}"));
            Some((format!("`{level}` in `{entry}` is not a level"), nearest))
        }
        Some((target, level)) => {
            let (first, rest) = target.split_at(target.find("::").unwrap_or(target.len()));
            let similarity = strsim::normalized_damerau_levenshtein(first, TARGET);
            let is_misspelt = first != TARGET && similarity >= MISSPELT;
            is_misspelt.then(|| {
                let nearest = format!("{TARGET}{rest}={level}");
                (format!("no target begins with `{first}`"), Some(nearest))
            })
        }
    }
}

/// Whether tracing takes the text for a level: a name in upper or lower case, or a number from 0 to 5.
fn is_level(text: &str) -> bool {
    let is_name = LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level));
    is_name || matches!(text.as_bytes(), [b'0'..=b'5'])
}

fn nearest_level(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    let similarity = |level: &&str| strsim::normalized_damerau_levenshtein(level, &text);
    let nearest = LEVELS
        .into_iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&nearest) >= MISSPELT_LEVEL).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tracing_accepts_on_purpose_is_accepted() {
        for filter in [
            "",
            "info",
            "INFO",
            "off",
            "3",
            "info,smsbridge=debug",
            "warn,smsbridge::access::grpc=debug,",
            "info,lapin=error",
            "info,h2=off,hyper=trace",
            "info,smsbridge[send{id=1}]=debug",
        ] {
            assert_eq!(mistake(filter), None, "{filter}");
        }
    }

    #[test]
    fn what_tracing_takes_for_a_target_is_refused() {
        for (filter, problem, remedy) in [
            ("loud", "`loud` is not a level", "write a level (off, error"),
            ("inof", "`inof` is not a level", "did you mean `info`?"),
            (
                "info,debgu",
                "`debgu` is not a level",
                "did you mean `debug`?",
            ),
            (
                "smsbridge",
                "`smsbridge` is not a level",
                "did you mean `smsbridge=debug`?",
            ),
            (
                "info,smsbridge=loud",
                "`loud` in `smsbridge=loud`",
                "write a level",
            ),
            (
                "smsbridge=dbug",
                "`dbug` in `smsbridge=dbug`",
                "did you mean `smsbridge=debug`?",
            ),
            (
                "info,smsbrige=debug",
                "begins with `smsbrige`",
                "did you mean `smsbridge=debug`?",
            ),
            (
                "sms_bridge::access=debug",
                "begins with `sms_bridge`",
                "did you mean `smsbridge::access=debug`?",
            ),
            // To tracing the space is a part of the name.
            (
                "info, smsbridge=debug",
                "begins with ` smsbridge`",
                "did you mean `smsbridge=debug`?",
            ),
            (
                "info, warn",
                "` warn` is not a level",
                "did you mean `warn`?",
            ),
            ("info=debug=trace", "is not a level", "write a level"),
        ] {
            let (found, offered) = mistake(filter).expect(filter);
            assert!(found.contains(problem), "{filter}: {found}");
            assert!(offered.contains(remedy), "{filter}: {offered}");
        }
    }
}
