//! Encodes texts: transliterates, chooses the alphabet, counts the parts.
//!
//! Pure: no state, no time, no allocation beyond the text itself, because it runs for every accepted message.
//! Sources: the manual's "Fully featured textual message", docs/INFOBIP_API.md#limits, 3GPP TS 23.038 (alphabets) and
//! 23.040 (the user data header, whose octets explain every limit below). Neighbours: [`gsm7`] has the tables,
//! [`national`] those of the languages, [`transliteration`] the scripts; `validate`, `state::inbox` and `http::preview` call
//! [`encode`].

mod gsm7;
mod national;
mod segments;
mod transliteration;

use self::national::{NationalTables, national_tables};
pub use self::{
    segments::{Segment, binary_segments, segments},
    transliteration::Transliteration,
};

/// Options of a message that affect its alphabet and parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// `language.languageCode`; in a preview `languageCode`.
    pub language: Option<Language>,
    /// `language.singleShift`: the language's table in place of the extension table.
    pub single_shift: bool,
    /// `language.lockingShift`: the language's table in place of the default alphabet.
    pub locking_shift: bool,
    /// `transliteration`, which is applied before the alphabet is chosen.
    pub transliteration: Option<Transliteration>,
}

/// A language with national tables (the manual's `languageCode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Has both tables.
    Tr,
    /// Has only a single shift table.
    Es,
    /// Has both tables.
    Pt,
}

impl Language {
    /// Parses the manual's code; `None` for any other text.
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "TR" => Some(Self::Tr),
            "ES" => Some(Self::Es),
            "PT" => Some(Self::Pt),
            _ => None,
        }
    }

    /// The manual's code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tr => "TR",
            Self::Es => "ES",
            Self::Pt => "PT",
        }
    }
}

/// The alphabet a text is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// Seven bits a character, with or without national tables.
    Gsm7,
    /// Sixteen bits a code unit (data coding 8).
    Ucs2,
}

/// A text after encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The text after transliteration, which the handset shows.
    pub text: String,
    /// The alphabet of all its segments.
    pub alphabet: Alphabet,
    /// Number of parts (`smsCount`, `messageCount`), at least 1.
    pub parts: u32,
    /// Space left in the last part, in septets or UTF-16 code units (`charactersRemaining`).
    pub characters_remaining: u32,
    /// The national tables that it is encoded with, in words.
    pub tables: Option<&'static str>,
}

/// Capacity of the only part, and of one of several parts.
#[derive(Debug, Clone, Copy)]
struct PartLimits {
    alone: u32,
    concatenated: u32,
}

/// No header: 160 septets. Concatenation takes 6 octets (7 septets).
const GSM7: PartLimits = PartLimits {
    alone: 160,
    concatenated: 153,
};
/// 140 octets, 134 with concatenation.
const UCS2: PartLimits = PartLimits {
    alone: 70,
    concatenated: 67,
};
/// Binary content counts octets.
const OCTETS: PartLimits = PartLimits {
    alone: 140,
    concatenated: 134,
};

/// Transliterates a text, chooses its alphabet and counts its parts.
///
/// The alphabets are tried in this order: seven bits with the tables of the language, if one is given; seven bits
/// without; UCS-2. With a language the header of its table is counted even if the text has none of its letters, as the
/// reference's preview samples show (66 characters with `TR` leave 89). Without a shift field the locking table of the
/// language is used (the preview has no shift fields, and its Turkish sample of 98 characters leaves 57 of 155). Spanish
/// has no locking table, so its single shift table is used.
///
/// Two samples contradict each other: after those 66 characters a client's preview with transliteration `TURKISH` leaves
/// 86 (152 in all), while the official preview with `GREEK` leaves 5 after 155 (160 in all). The official one is followed.
///
/// ```text
/// encode("60 GSM characters", default) → Gsm7, 1 part, 100 remaining
/// ```
pub fn encode(text: &str, options: &TextOptions) -> Encoded {
    let text = match options.transliteration {
        Some(script) => script.transliterate(text),
        None => text.to_owned(),
    };
    let coding = choose_coding(&text, options);
    let (parts, characters_remaining) = coding.parts;
    Encoded {
        text,
        alphabet: coding.alphabet,
        parts,
        characters_remaining,
        tables: coding.national.map(|tables| tables.name),
    }
}

/// How a text is encoded.
struct Coding {
    alphabet: Alphabet,
    national: Option<&'static NationalTables>,
    /// Number of parts, and what remains of the last one.
    parts: (u32, u32),
}

fn choose_coding(text: &str, options: &TextOptions) -> Coding {
    let national = options
        .language
        .map(|language| national_tables(language, options));
    let with_national = national.and_then(|tables| {
        let parts = count_parts(text, tables.limits, |c| tables.septets.septets(c))?;
        Some((Some(tables), parts))
    });
    let measured = with_national.or_else(|| {
        let parts = count_parts(text, GSM7, |c| gsm7::DEFAULT.septets(c))?;
        Some((None, parts))
    });
    match measured {
        Some((national, parts)) => Coding {
            alphabet: Alphabet::Gsm7,
            national,
            parts,
        },
        None => Coding {
            alphabet: Alphabet::Ucs2,
            national: None,
            parts: count_ucs2_parts(text),
        },
    }
}

/// Number of parts of binary content, by its length in octets.
///
/// Data coding 0 (also 16 for flash, and 0xF0 to 0xF3) is the default alphabet with one septet in each octet, as in the
/// manual's sample `54 65 73 74`: 160/153. Any other content is sent as octets: 140/134.
pub fn binary_parts(octets: usize, data_coding: u8) -> u32 {
    let limits = binary_limits(data_coding);
    let octets = u32::try_from(octets).unwrap_or(u32::MAX);
    if octets <= limits.alone {
        1
    } else {
        octets.div_ceil(limits.concatenated)
    }
}

fn binary_limits(data_coding: u8) -> PartLimits {
    match data_coding {
        0x00 | 0x10 | 0xf0..=0xf3 => GSM7,
        _ => OCTETS,
    }
}

/// Parts and remaining code units in UCS-2.
fn count_ucs2_parts(text: &str) -> (u32, u32) {
    count_parts(text, UCS2, |c| u32::try_from(c.len_utf16()).ok())
        .expect("every character has one or two code units")
}

/// Counts parts of whole characters: no part ends within an escape pair or a surrogate pair. Returns the number of parts
/// and what remains of the last one; `None` if a character is not in the alphabet.
fn count_parts(
    text: &str,
    limits: PartLimits,
    cost: impl Fn(char) -> Option<u32>,
) -> Option<(u32, u32)> {
    let (mut total, mut parts, mut used) = (0_u32, 1_u32, 0_u32);
    for character in text.chars() {
        let cost = cost(character)?;
        total = total.saturating_add(cost);
        used += cost;
        if used > limits.concatenated {
            parts += 1;
            used = cost;
        }
    }
    if total <= limits.alone {
        Some((1, limits.alone - total))
    } else {
        Some((parts, limits.concatenated - used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(text: &str, options: &TextOptions) -> (Alphabet, u32, u32) {
        let encoded = encode(text, options);
        (
            encoded.alphabet,
            encoded.parts,
            encoded.characters_remaining,
        )
    }

    fn plain(text: &str) -> (Alphabet, u32, u32) {
        measured(text, &TextOptions::default())
    }

    fn language(language: Language, single_shift: bool, locking_shift: bool) -> TextOptions {
        TextOptions {
            language: Some(language),
            single_shift,
            locking_shift,
            transliteration: None,
        }
    }

    const TURKISH: &str = "Mesaj gönderimi yapmadan önce önizleme seçeneğini kullanmanız doğru karar \
                           vermenize yardımcı olur.";
    const GREEK: &str = "Ως Μεγαρικό ψήφισμα είναι γνωστή η απόφαση της Εκκλησίας του δήμου των Αθηναίων \
                         (πιθανόν γύρω στο 433/2 π.Χ.) να επιβάλει αυστηρό και καθολικό εμπάργκο στα";

    #[test]
    fn the_preview_vectors_of_the_reference_hold() {
        let ascii = "Let's see how many characters remain unused in this message.";
        assert_eq!(plain(ascii), (Alphabet::Gsm7, 1, 100));
        assert_eq!(plain(TURKISH), (Alphabet::Ucs2, 2, 36));
        let tr = language(Language::Tr, false, false);
        assert_eq!(measured(TURKISH, &tr), (Alphabet::Gsm7, 1, 57));
        assert_eq!(plain(GREEK), (Alphabet::Ucs2, 3, 46));
        let greek = TextOptions {
            transliteration: Some(Transliteration::Greek),
            ..TextOptions::default()
        };
        assert_eq!(measured(GREEK, &greek), (Alphabet::Gsm7, 1, 5));
        // The text of the official sample, with Latin letters where GSM has no Greek one.
        let expected = "ΩΣ MEΓAPIKO ΨHΦIΣMA EINAI ΓNΩΣTH H AΠOΦAΣH THΣ EKKΛHΣIAΣ TOY ΔHMOY TΩN AΘHNAIΩN \
                        (ΠIΘANON ΓYPΩ ΣTO 433/2 Π.X.) NA EΠIBAΛEI AYΣTHPO KAI KAΘOΛIKO EMΠAPΓKO ΣTA";
        assert_eq!(encode(GREEK, &greek).text, expected);
        // A sample of an official client. Its third row (TURKISH leaves 86) is not tested, because it contradicts the sample
        // of the reference above.
        let client = "Let's see how many characters will remain unused in this message .";
        assert_eq!(plain(client), (Alphabet::Gsm7, 1, 94));
        assert_eq!(measured(client, &tr), (Alphabet::Gsm7, 1, 89));
    }

    #[test]
    fn the_manuals_turkish_message_is_one_part_with_its_single_shift_table() {
        let text = "Artık Ulusal Dil Tanımlayıcısı ile Türkçe karakterli smslerinizi rahatlıkla \
                    iletebilirsiniz.";
        assert_eq!(measured(text, &language(Language::Tr, true, false)).1, 1);
        assert_eq!(plain(text).1, 2);
    }

    #[test]
    fn parts_begin_at_the_documented_limits() {
        for (length, parts, left) in [
            (0, 1, 160),
            (160, 1, 0),
            (161, 2, 145),
            (306, 2, 0),
            (307, 3, 152),
            (3825, 25, 0),
            (3826, 26, 152),
        ] {
            assert_eq!(
                plain(&"a".repeat(length)),
                (Alphabet::Gsm7, parts, left),
                "{length}"
            );
        }
        for (length, parts, left) in [
            (1, 1, 69),
            (70, 1, 0),
            (71, 2, 63),
            (134, 2, 0),
            (135, 3, 66),
        ] {
            assert_eq!(
                plain(&"я".repeat(length)),
                (Alphabet::Ucs2, parts, left),
                "{length}"
            );
        }
        let locking = language(Language::Tr, false, true);
        for (length, parts, left) in [(155, 1, 0), (156, 2, 142), (298, 2, 0), (299, 3, 148)] {
            assert_eq!(
                measured(&"ğ".repeat(length), &locking),
                (Alphabet::Gsm7, parts, left),
                "{length}"
            );
        }
        for (code, letter) in [(Language::Pt, "ã"), (Language::Tr, "ğ")] {
            let both = language(code, true, true);
            for (length, parts, left) in [(152, 1, 0), (153, 2, 139), (292, 2, 0), (293, 3, 145)] {
                assert_eq!(
                    measured(&letter.repeat(length), &both),
                    (Alphabet::Gsm7, parts, left),
                    "{code:?} {length}"
                );
            }
        }
    }

    #[test]
    fn pairs_stay_whole_at_a_boundary() {
        // 80 escape pairs fill one part exactly; the 81st needs a second, and a part of 153 takes only 76 of them.
        assert_eq!(plain(&"€".repeat(80)), (Alphabet::Gsm7, 1, 0));
        assert_eq!(plain(&"€".repeat(81)), (Alphabet::Gsm7, 2, 143));
        assert_eq!(plain(&"€".repeat(153)), (Alphabet::Gsm7, 3, 151));
        // A part of 67 code units takes 33 surrogate pairs.
        assert_eq!(plain(&"😀".repeat(35)), (Alphabet::Ucs2, 1, 0));
        assert_eq!(plain(&"😀".repeat(66)), (Alphabet::Ucs2, 2, 1));
        assert_eq!(plain(&"😀".repeat(67)), (Alphabet::Ucs2, 3, 65));
    }

    #[test]
    fn a_language_covers_its_own_letters_and_falls_back_for_others() {
        let es = language(Language::Es, true, false);
        assert_eq!(measured("Está aquí", &es), (Alphabet::Gsm7, 1, 155 - 11));
        assert_eq!(
            measured("Está aquí", &language(Language::Es, false, true)),
            (Alphabet::Gsm7, 1, 155 - 11)
        );
        let pt = language(Language::Pt, false, true);
        assert_eq!(
            measured("São João: ∞`~^\\|€", &pt),
            (Alphabet::Gsm7, 1, 155 - 17)
        );
        // In the default alphabet, but in neither Turkish table: no header, the full 160.
        assert_eq!(
            measured("è", &language(Language::Tr, false, true)),
            (Alphabet::Gsm7, 1, 159)
        );
        assert_eq!(
            measured("Привет", &language(Language::Tr, true, true)),
            (Alphabet::Ucs2, 1, 64)
        );
    }

    #[test]
    fn binary_counts_septets_for_the_default_alphabet_and_octets_for_the_rest() {
        assert_eq!(
            [0, 1, 160, 161, 306, 307].map(|octets| binary_parts(octets, 0)),
            [1, 1, 1, 2, 2, 3]
        );
        assert_eq!(
            [140, 141, 268, 269].map(|octets| binary_parts(octets, 8)),
            [1, 2, 2, 3]
        );
        assert_eq!(binary_parts(160, 24), 2);
        assert_eq!(binary_parts(160, 0xf0), 1);
    }

    #[test]
    fn language_codes_survive_a_round_trip() {
        for code in ["TR", "ES", "PT"] {
            assert_eq!(Language::parse(code).map(Language::as_str), Some(code));
        }
        assert_eq!(Language::parse("DE"), None);
    }
}
