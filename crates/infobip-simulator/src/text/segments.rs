//! Splits a content into the parts in which it is sent, with the user data header of each (3GPP TS 23.040, 9.2.3.24).
//!
//! Invariant: as many segments as [`super::encode`] counts parts, and together their texts are the whole text.

use super::{
    Alphabet, GSM7, NationalTables, PartLimits, TextOptions, UCS2, binary_limits, binary_parts,
    choose_coding, gsm7,
};

/// One part of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its share of the content: a text, or octets in hexadecimal.
    pub content: String,
    /// How much of the part it uses, in septets, UTF-16 code units or octets.
    pub units: u32,
    /// The user data header with its length octet, in hexadecimal; empty if the part has none.
    pub header: String,
}

/// The parts of a text that is transliterated already. `reference` is the number that the parts have in common.
pub fn segments(text: &str, options: &TextOptions, reference: u8) -> (Alphabet, Vec<Segment>) {
    let coding = choose_coding(text, options);
    let national = coding.national;
    let (limits, septets) = match (coding.alphabet, national) {
        (Alphabet::Ucs2, _) => (UCS2, None),
        (Alphabet::Gsm7, Some(tables)) => (tables.limits, Some(tables.septets)),
        (Alphabet::Gsm7, None) => (GSM7, Some(&gsm7::DEFAULT)),
    };
    let cost = |character: char| match septets {
        Some(table) => table.septets(character),
        None => u32::try_from(character.len_utf16()).ok(),
    };
    let (parts, _) = coding.parts;
    let room = room(limits, parts);
    let mut segments = vec![Segment {
        content: String::new(),
        units: 0,
        header: header(1, parts, reference, national),
    }];
    for character in text.chars() {
        let units = cost(character).unwrap_or(1);
        let number = segments.len() + 1;
        match segments.last_mut() {
            Some(last) if last.units + units <= room => {
                last.units += units;
                last.content.push(character);
            }
            _ => segments.push(Segment {
                content: character.to_string(),
                units,
                header: header(number, parts, reference, national),
            }),
        }
    }
    (coding.alphabet, segments)
}

/// The parts of octets. A header of their own stays in the first part.
pub fn binary_segments(octets: &[u8], data_coding: u8, reference: u8) -> Vec<Segment> {
    let parts = binary_parts(octets.len(), data_coding);
    let room = room(binary_limits(data_coding), parts);
    octets
        .chunks(usize::try_from(room).unwrap_or(usize::MAX))
        .enumerate()
        .map(|(index, octets)| Segment {
            content: hex::encode(octets),
            units: u32::try_from(octets.len()).unwrap_or(u32::MAX),
            header: header(index + 1, parts, reference, None),
        })
        .collect()
}

fn room(limits: PartLimits, parts: u32) -> u32 {
    if parts == 1 {
        limits.alone
    } else {
        limits.concatenated
    }
}

fn header(number: usize, parts: u32, reference: u8, national: Option<&NationalTables>) -> String {
    let octet = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    let mut elements = Vec::new();
    if parts > 1 {
        elements.extend([
            0x00,
            3,
            reference,
            octet(u64::from(parts)),
            octet(number as u64),
        ]);
    }
    if let Some(tables) = national {
        for (identifier, language) in [(0x24, tables.single_shift), (0x25, tables.locking_shift)] {
            if let Some(language) = language {
                elements.extend([identifier, 1, language]);
            }
        }
    }
    if elements.is_empty() {
        return String::new();
    }
    elements.insert(0, octet(elements.len() as u64));
    hex::encode(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Language, encode};

    #[test]
    fn segments_are_the_parts_and_the_text() {
        let turkish = TextOptions {
            language: Some(Language::Tr),
            ..TextOptions::default()
        };
        for (text, options) in [
            ("", TextOptions::default()),
            ("a", TextOptions::default()),
            ("€", TextOptions::default()),
            ("😀", TextOptions::default()),
            ("ğ", turkish.clone()),
            ("я", turkish),
        ] {
            for length in [
                0, 1, 66, 67, 70, 71, 76, 77, 80, 81, 134, 153, 160, 161, 400,
            ] {
                let text = text.repeat(length);
                let encoded = encode(&text, &options);
                let (alphabet, segments) = segments(&text, &options, 7);
                assert_eq!(alphabet, encoded.alphabet);
                assert_eq!(segments.len(), encoded.parts as usize, "{length} {text}");
                let joined: String = segments.iter().map(|part| part.content.as_str()).collect();
                assert_eq!(joined, text);
            }
        }
    }

    #[test]
    fn headers_name_the_part_and_the_tables() {
        let headers = |text: &str, options: &TextOptions| -> Vec<String> {
            let (_, segments) = segments(text, options, 0x2a);
            segments.into_iter().map(|part| part.header).collect()
        };
        let plain = TextOptions::default();
        assert_eq!(headers("a", &plain), [""]);
        assert_eq!(
            headers(&"a".repeat(161), &plain),
            ["0500032a0201", "0500032a0202"]
        );
        let both = TextOptions {
            language: Some(Language::Pt),
            single_shift: true,
            locking_shift: true,
            transliteration: None,
        };
        assert_eq!(headers("ã", &both), ["06240103250103"]);
        assert_eq!(
            headers(&"ã".repeat(153), &both)[0],
            "0b00032a0201240103250103"
        );
    }

    #[test]
    fn octets_are_split_as_they_are_counted() {
        let parts = binary_segments(&[1; 141], 4, 1);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].units, parts[1].units), (134, 7));
        assert_eq!(binary_segments(&[1; 160], 0, 1).len(), 1);
    }
}
