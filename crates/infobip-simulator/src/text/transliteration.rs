//! Transliteration: replaces the characters of a script, so that the text fits into seven bits.
//!
//! Only characters outside the GSM default alphabet are replaced: the reference's Greek sample keeps `Γ`, `Θ`, `Ω` and
//! replaces `α` by Latin `A`. That sample is the only source of a mapping; the mappings of the other scripts are the usual
//! national ones [?]. A character that is not in the mapping is kept, except that `NON_UNICODE` removes it.

use super::gsm7;

/// The manual's `transliteration` values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transliteration {
    /// `TURKISH`: Turkish letters lose their diacritics.
    Turkish,
    /// `GREEK`: Greek capitals, with Latin look-alikes where GSM has none.
    Greek,
    /// `CYRILLIC`: Cyrillic of the Slavic languages into Latin letters.
    Cyrillic,
    /// `CENTRAL_EUROPEAN`: Latin letters of Central Europe lose their diacritics.
    CentralEuropean,
    /// `NON_UNICODE`: letters of a script above are replaced, any other character outside the GSM alphabet is removed.
    NonUnicode,
}

impl Transliteration {
    /// Parses the manual's value; `None` for any other text.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "TURKISH" => Some(Self::Turkish),
            "GREEK" => Some(Self::Greek),
            "CYRILLIC" => Some(Self::Cyrillic),
            "CENTRAL_EUROPEAN" => Some(Self::CentralEuropean),
            "NON_UNICODE" => Some(Self::NonUnicode),
            _ => None,
        }
    }

    /// The manual's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turkish => "TURKISH",
            Self::Greek => "GREEK",
            Self::Cyrillic => "CYRILLIC",
            Self::CentralEuropean => "CENTRAL_EUROPEAN",
            Self::NonUnicode => "NON_UNICODE",
        }
    }

    /// Replaces the characters of a text.
    pub(super) fn transliterate(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            if gsm7::DEFAULT.septets(character).is_some() {
                out.push(character);
                continue;
            }
            let replacement = match self {
                Self::Turkish => turkish(character),
                Self::Greek => greek(character),
                Self::Cyrillic => cyrillic(character),
                Self::CentralEuropean => central_european(character),
                Self::NonUnicode => Some(stripped(character)),
            };
            match replacement {
                Some(replacement) => out.push_str(replacement),
                None => out.push(character),
            }
        }
        out
    }
}

fn turkish(character: char) -> Option<&'static str> {
    Some(match character {
        'Ğ' => "G",
        'ğ' => "g",
        'İ' => "I",
        'ı' => "i",
        'Ş' => "S",
        'ş' => "s",
        'ç' => "c",
        'Â' => "A",
        'â' => "a",
        'Î' => "I",
        'î' => "i",
        'Û' => "U",
        'û' => "u",
        _ => return None,
    })
}

fn greek(character: char) -> Option<&'static str> {
    Some(match character {
        'Α' | 'Ά' | 'α' | 'ά' => "A",
        'Β' | 'β' => "B",
        'γ' => "Γ",
        'δ' => "Δ",
        'Ε' | 'Έ' | 'ε' | 'έ' => "E",
        'Ζ' | 'ζ' => "Z",
        'Η' | 'Ή' | 'η' | 'ή' => "H",
        'θ' => "Θ",
        'Ι' | 'Ί' | 'Ϊ' | 'ι' | 'ί' | 'ϊ' | 'ΐ' => "I",
        'Κ' | 'κ' => "K",
        'λ' => "Λ",
        'Μ' | 'μ' | 'µ' => "M",
        'Ν' | 'ν' => "N",
        'ξ' => "Ξ",
        'Ο' | 'Ό' | 'ο' | 'ό' => "O",
        'π' => "Π",
        'Ρ' | 'ρ' => "P",
        'σ' | 'ς' => "Σ",
        'Τ' | 'τ' => "T",
        'Υ' | 'Ύ' | 'Ϋ' | 'υ' | 'ύ' | 'ϋ' | 'ΰ' => "Y",
        'φ' => "Φ",
        'Χ' | 'χ' => "X",
        'ψ' => "Ψ",
        'Ώ' | 'ω' | 'ώ' => "Ω",
        _ => return None,
    })
}

fn cyrillic(character: char) -> Option<&'static str> {
    Some(match character {
        'А' => "A",
        'а' => "a",
        'Б' => "B",
        'б' => "b",
        'В' => "V",
        'в' => "v",
        'Г' | 'Ґ' => "G",
        'г' | 'ґ' => "g",
        'Д' => "D",
        'д' => "d",
        'Ђ' => "Dj",
        'ђ' => "dj",
        'Ѓ' => "Gj",
        'ѓ' => "gj",
        'Е' | 'Ё' | 'Э' => "E",
        'е' | 'ё' | 'э' => "e",
        'Є' => "Ye",
        'є' => "ye",
        'Ж' => "Zh",
        'ж' => "zh",
        'З' => "Z",
        'з' => "z",
        'Ѕ' => "Dz",
        'ѕ' => "dz",
        'И' | 'І' => "I",
        'и' | 'і' => "i",
        'Ї' => "Yi",
        'ї' => "yi",
        'Й' | 'Ы' => "Y",
        'й' | 'ы' => "y",
        'Ј' => "J",
        'ј' => "j",
        'К' => "K",
        'к' => "k",
        'Ќ' => "Kj",
        'ќ' => "kj",
        'Л' => "L",
        'л' => "l",
        'Љ' => "Lj",
        'љ' => "lj",
        'М' => "M",
        'м' => "m",
        'Н' => "N",
        'н' => "n",
        'Њ' => "Nj",
        'њ' => "nj",
        'О' => "O",
        'о' => "o",
        'П' => "P",
        'п' => "p",
        'Р' => "R",
        'р' => "r",
        'С' => "S",
        'с' => "s",
        'Т' => "T",
        'т' => "t",
        'Ћ' => "C",
        'ћ' => "c",
        'У' | 'Ў' => "U",
        'у' | 'ў' => "u",
        'Ф' => "F",
        'ф' => "f",
        'Х' => "H",
        'х' => "h",
        'Ц' => "C",
        'ц' => "c",
        'Ч' => "Ch",
        'ч' => "ch",
        'Џ' => "Dz",
        'џ' => "dz",
        'Ш' => "Sh",
        'ш' => "sh",
        'Щ' => "Sht",
        'щ' => "sht",
        'Ъ' | 'ъ' | 'Ь' | 'ь' => "",
        'Ю' => "Yu",
        'ю' => "yu",
        'Я' => "Ya",
        'я' => "ya",
        _ => return None,
    })
}

fn central_european(character: char) -> Option<&'static str> {
    Some(match character {
        'Á' | 'Â' | 'Ă' | 'Ą' | 'Ã' => "A",
        'á' | 'â' | 'ă' | 'ą' | 'ã' => "a",
        'Ć' | 'Č' => "C",
        'ć' | 'č' | 'ç' => "c",
        'Ď' | 'Đ' => "D",
        'ď' | 'đ' => "d",
        'Ë' | 'Ě' | 'Ę' | 'È' | 'Ê' => "E",
        'ë' | 'ě' | 'ę' | 'ê' => "e",
        'Í' | 'Î' => "I",
        'í' | 'î' => "i",
        'Ł' | 'Ľ' | 'Ĺ' => "L",
        'ł' | 'ľ' | 'ĺ' => "l",
        'Ń' | 'Ň' => "N",
        'ń' | 'ň' => "n",
        'Ó' | 'Ô' | 'Ő' | 'Õ' => "O",
        'ó' | 'ô' | 'ő' | 'õ' => "o",
        'Ŕ' | 'Ř' => "R",
        'ŕ' | 'ř' => "r",
        'Ś' | 'Š' | 'Ş' | 'Ș' => "S",
        'ś' | 'š' | 'ş' | 'ș' => "s",
        'Ť' | 'Ţ' | 'Ț' => "T",
        'ť' | 'ţ' | 'ț' => "t",
        'Ú' | 'Ů' | 'Ű' => "U",
        'ú' | 'ů' | 'ű' => "u",
        'Ý' => "Y",
        'ý' => "y",
        'Ź' | 'Ż' | 'Ž' => "Z",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

/// The replacement of the first script that has the character; an ASCII form of a typographic character; nothing for any
/// other.
fn stripped(character: char) -> &'static str {
    let letter = turkish(character)
        .or_else(|| central_european(character))
        .or_else(|| greek(character))
        .or_else(|| cyrillic(character));
    match (letter, character) {
        (Some(letter), _) => letter,
        (None, '‘' | '’' | '‚' | '`' | '´') => "'",
        (None, '“' | '”' | '„' | '«' | '»') => "\"",
        (None, '–' | '—' | '‐' | '−') => "-",
        (None, '…') => "...",
        (None, '\t' | '\u{a0}') => " ",
        (None, _) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_transliterated_to_gsm7() {
        let cases = [
            (
                Transliteration::Turkish,
                "Şişli'de ığdır İçin Ğ ö",
                "Sisli'de igdir Icin G ö",
            ),
            (Transliteration::Greek, "Καλημέρα κόσμε", "KAΛHMEPA KOΣME"),
            (
                Transliteration::Cyrillic,
                "Съешь ёще Љиљана",
                "Sesh eshte Ljiljana",
            ),
            (
                Transliteration::CentralEuropean,
                "Žluťoučký kůň, łódź, győr",
                "Zlutoucky kun, lodz, gyor",
            ),
            (
                Transliteration::NonUnicode,
                "“Hi” – 日本 😀 čaj…",
                "\"Hi\" -   caj...",
            ),
        ];
        for (script, text, expected) in cases {
            let out = script.transliterate(text);
            assert_eq!(out, expected, "{script:?}");
            assert!(
                out.chars().all(|c| gsm7::DEFAULT.septets(c).is_some()),
                "{script:?}"
            );
        }
    }

    #[test]
    fn a_transliteration_does_not_change_other_scripts() {
        assert_eq!(Transliteration::Greek.transliterate("Привет ß"), "Привет ß");
    }

    #[test]
    fn transliteration_names_survive_a_round_trip() {
        for word in [
            "TURKISH",
            "GREEK",
            "CYRILLIC",
            "CENTRAL_EUROPEAN",
            "NON_UNICODE",
        ] {
            assert_eq!(
                Transliteration::parse(word).map(Transliteration::as_str),
                Some(word)
            );
        }
        assert_eq!(Transliteration::parse("greek"), None);
    }
}
