//! The seven-bit tables of 3GPP TS 23.038: default alphabet and extension (6.2.1), Turkish, Spanish and Portuguese
//! single shift (annex A.2) and locking shift (A.3).
//!
//! The simulator never packs a text into septets; it only needs the number of septets of each character. So a pair of
//! tables is merged at compile time into one map from character to septets, and a look-up is one array access.

/// The number of septets of every character with one pair of tables: the basic one (default or locking shift) and the
/// one behind the escape (extension or single shift).
pub(super) struct SeptetTable {
    /// By code point; 0: not in this alphabet. All characters of the tables except two are below U+0400.
    below_u0400: [u8; 0x400],
    euro: u8,
    infinity: u8,
}

impl SeptetTable {
    /// 1 for a character of the basic table, 2 for one behind the escape, `None` for one outside the alphabet.
    pub(super) fn septets(&self, character: char) -> Option<u32> {
        let cost = match character {
            '€' => self.euro,
            '∞' => self.infinity,
            _ => *self.below_u0400.get(character as usize)?,
        };
        if cost == 0 {
            None
        } else {
            Some(u32::from(cost))
        }
    }

    const fn new(basic: &[&str], escaped: &[&str]) -> Self {
        let mut table = Self {
            below_u0400: [0; 0x400],
            euro: 0,
            infinity: 0,
        };
        // The basic table is added last: a character that both tables have takes one septet.
        let mut at = 0;
        while at < escaped.len() {
            table.add(escaped[at], 2);
            at += 1;
        }
        at = 0;
        while at < basic.len() {
            table.add(basic[at], 1);
            at += 1;
        }
        table
    }

    /// Adds each character of a table. Decodes UTF-8 by hand, because `str::chars` cannot run at compile time.
    const fn add(&mut self, characters: &str, septets: u8) {
        let bytes = characters.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let (code, length) = match bytes[at] {
                first @ 0..=0x7f => (first as usize, 1),
                first @ 0x80..=0xdf => (
                    ((first & 0x1f) as usize) << 6 | (bytes[at + 1] & 0x3f) as usize,
                    2,
                ),
                first => (
                    ((first & 0x0f) as usize) << 12
                        | ((bytes[at + 1] & 0x3f) as usize) << 6
                        | (bytes[at + 2] & 0x3f) as usize,
                    3,
                ),
            };
            match code {
                0x20ac => self.euro = septets,
                0x221e => self.infinity = septets,
                _ => self.below_u0400[code] = septets,
            }
            at += length;
        }
    }
}

/// The characters that all three basic tables have: digits, punctuation, the Latin alphabet.
const COMMON_BASIC: &str =
    "\n\r !\"#%&'()*+,-./0123456789:;<=>?@$_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 6.2.1: the rest of the default alphabet, by row.
const DEFAULT_BASIC: &str = "£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà";
/// A.3.1: the rest of the Turkish locking shift table.
const TURKISH_BASIC: &str = "£¥€éùıòÇĞğÅåΔΦΓΛΩΠΨΣΘΞŞşßÉ¤İÄÖÑÜ§çäöñüà";
/// A.3.3: the rest of the Portuguese locking shift table.
const PORTUGUESE_BASIC: &str = "£¥êéúíóçÔôÁáΔªÇÀ∞^\\€Ó|ÂâÊÉºÍÃÕÚÜ§~ãõ`üà";

/// 6.2.1.1: the default extension table, which the single shift tables contain.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";
/// A.2.1: the characters that Turkish adds to the extension.
const TURKISH_ESCAPED: &str = "ĞİŞçğış";
/// A.2.2: the characters that Spanish adds to the extension.
const SPANISH_ESCAPED: &str = "çÁÍÓÚáíóú";
/// A.2.3: the characters that Portuguese adds to the extension.
const PORTUGUESE_ESCAPED: &str = "êçÔôÁáΦΓΩΠΨΣΘÊÀÍÓÚÃÕÂíóúãõâ";

/// The default alphabet with its extension.
pub(super) static DEFAULT: SeptetTable =
    SeptetTable::new(&[COMMON_BASIC, DEFAULT_BASIC], &[EXTENSION]);
/// The default alphabet with the Turkish single shift table.
pub(super) static TURKISH_SINGLE: SeptetTable = SeptetTable::new(
    &[COMMON_BASIC, DEFAULT_BASIC],
    &[EXTENSION, TURKISH_ESCAPED],
);
/// The Turkish locking shift table with the default extension.
pub(super) static TURKISH_LOCKING: SeptetTable =
    SeptetTable::new(&[COMMON_BASIC, TURKISH_BASIC], &[EXTENSION]);
/// Both Turkish tables.
pub(super) static TURKISH_BOTH: SeptetTable = SeptetTable::new(
    &[COMMON_BASIC, TURKISH_BASIC],
    &[EXTENSION, TURKISH_ESCAPED],
);
/// The default alphabet with the Spanish single shift table (there is no locking one: A.3.2 is void).
pub(super) static SPANISH_SINGLE: SeptetTable = SeptetTable::new(
    &[COMMON_BASIC, DEFAULT_BASIC],
    &[EXTENSION, SPANISH_ESCAPED],
);
/// The default alphabet with the Portuguese single shift table.
pub(super) static PORTUGUESE_SINGLE: SeptetTable = SeptetTable::new(
    &[COMMON_BASIC, DEFAULT_BASIC],
    &[EXTENSION, PORTUGUESE_ESCAPED],
);
/// The Portuguese locking shift table with the default extension.
pub(super) static PORTUGUESE_LOCKING: SeptetTable =
    SeptetTable::new(&[COMMON_BASIC, PORTUGUESE_BASIC], &[EXTENSION]);
/// Both Portuguese tables.
pub(super) static PORTUGUESE_BOTH: SeptetTable = SeptetTable::new(
    &[COMMON_BASIC, PORTUGUESE_BASIC],
    &[EXTENSION, PORTUGUESE_ESCAPED],
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn character_tables_have_the_sizes_of_the_annex() {
        // 128 cells without the escape.
        for rest in [DEFAULT_BASIC, TURKISH_BASIC, PORTUGUESE_BASIC] {
            let characters: BTreeSet<char> = COMMON_BASIC.chars().chain(rest.chars()).collect();
            assert_eq!(characters.len(), 127, "{rest}");
            assert_eq!(
                COMMON_BASIC.chars().count() + rest.chars().count(),
                127,
                "{rest}"
            );
        }
        // Counted in the annex, without page break control and escape cells.
        for (added, cells) in [
            ("", 10),
            (TURKISH_ESCAPED, 17),
            (SPANISH_ESCAPED, 19),
            (PORTUGUESE_ESCAPED, 37),
        ] {
            let characters: BTreeSet<char> = EXTENSION.chars().chain(added.chars()).collect();
            assert_eq!(characters.len(), cells, "{added}");
        }
    }

    #[test]
    fn a_character_has_the_cost_of_its_cheapest_table() {
        assert_eq!(DEFAULT.septets('a'), Some(1));
        assert_eq!(DEFAULT.septets('€'), Some(2));
        assert_eq!(DEFAULT.septets('ç'), None);
        assert_eq!(DEFAULT.septets('`'), None);
        assert_eq!(DEFAULT.septets('\t'), None);
        assert_eq!(DEFAULT.septets('Ж'), None);
        assert_eq!(DEFAULT.septets('😀'), None);
        assert_eq!(TURKISH_LOCKING.septets('€'), Some(1));
        assert_eq!(TURKISH_LOCKING.septets('è'), None);
        assert_eq!(TURKISH_SINGLE.septets('ğ'), Some(2));
        assert_eq!(TURKISH_BOTH.septets('ğ'), Some(1));
        assert_eq!(SPANISH_SINGLE.septets('ñ'), Some(1));
        assert_eq!(SPANISH_SINGLE.septets('ó'), Some(2));
        assert_eq!(PORTUGUESE_LOCKING.septets('∞'), Some(1));
        assert_eq!(PORTUGUESE_LOCKING.septets('['), Some(2));
        assert_eq!(PORTUGUESE_LOCKING.septets('Φ'), None);
        assert_eq!(PORTUGUESE_BOTH.septets('Φ'), Some(2));
        assert_eq!(PORTUGUESE_SINGLE.septets('ã'), Some(2));
    }
}
