//! Colours of results on a terminal.

/// A colour of the terminal's palette, or bold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Bold,
    Good,
    Bad,
    /// Not final, or in doubt.
    Open,
}

/// Beginnings and parts of the texts of outcomes, statuses and event types, as they are in lower case. The first match counts.
const TONES: [(&str, Tone); 13] = [
    ("undeliverable", Tone::Bad),
    ("not sent", Tone::Open),
    ("rejected", Tone::Bad),
    ("refused", Tone::Bad),
    ("invalid", Tone::Bad),
    ("expired", Tone::Bad),
    ("missing", Tone::Bad),
    ("unknown", Tone::Open),
    ("pending", Tone::Open),
    ("accepted", Tone::Good),
    ("delivered", Tone::Good),
    ("received", Tone::Good),
    ("completed", Tone::Good),
];

impl Tone {
    /// The tone of an outcome, a status or an event type; `None` for other texts.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        TONES
            .iter()
            .find(|(part, _)| text.contains(part))
            .map(|(_, tone)| *tone)
    }

    /// `text` between the escape sequences of this tone.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Bold => 1,
            Self::Bad => 31,
            Self::Good => 32,
            Self::Open => 33,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_statuses_and_event_types_have_tones() {
        for (text, tone) in [
            ("accepted", Some(Tone::Good)),
            ("DELIVERED_TO_HANDSET (5)", Some(Tone::Good)),
            ("UNDELIVERABLE_NOT_DELIVERED (4)", Some(Tone::Bad)),
            ("report.rejected", Some(Tone::Bad)),
            ("PENDING_ENROUTE (7)", Some(Tone::Open)),
            ("not sent", Some(Tone::Open)),
            ("41793026727", None),
        ] {
            assert_eq!(Tone::of(text), tone, "{text}");
        }
        assert_eq!(Tone::Bad.paint("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
