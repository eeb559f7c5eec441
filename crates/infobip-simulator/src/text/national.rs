//! The national tables of the languages, and the room that their headers leave.
//!
//! Sources: 3GPP TS 23.038, 6.2.1.2.4, and 23.040. Neighbours: [`gsm7`] has the septets, [`super::encode`] chooses a table.

use super::{Language, PartLimits, TextOptions, gsm7};

/// One national table: a header of 4 octets (5 septets), of 9 with concatenation (11). docs/INFOBIP_API.md#limits: 155/149.
const ONE_TABLE: PartLimits = PartLimits {
    alone: 155,
    concatenated: 149,
};
/// Both national tables: a header of 7 octets (8 septets), of 12 with concatenation (14). From 23.040 [?].
const BOTH_TABLES: PartLimits = PartLimits {
    alone: 152,
    concatenated: 146,
};

/// National tables of a text: their septets, their room, and the identifiers by which a header names them.
pub(super) struct NationalTables {
    pub(super) name: &'static str,
    pub(super) septets: &'static gsm7::SeptetTable,
    pub(super) limits: PartLimits,
    /// 3GPP TS 23.038, 6.2.1.2.4: the language behind the escape, and the language of the base table.
    pub(super) single_shift: Option<u8>,
    pub(super) locking_shift: Option<u8>,
}

/// Declares the tables of a language.
const fn tables(
    name: &'static str,
    septets: &'static gsm7::SeptetTable,
    single_shift: Option<u8>,
    locking_shift: Option<u8>,
) -> NationalTables {
    NationalTables {
        name,
        septets,
        limits: if single_shift.is_some() && locking_shift.is_some() {
            BOTH_TABLES
        } else {
            ONE_TABLE
        },
        single_shift,
        locking_shift,
    }
}

static TURKISH_BOTH: NationalTables = tables(
    "Turkish locking and single shift",
    &gsm7::TURKISH_BOTH,
    Some(1),
    Some(1),
);
static TURKISH_LOCKING: NationalTables = tables(
    "Turkish locking shift",
    &gsm7::TURKISH_LOCKING,
    None,
    Some(1),
);
static TURKISH_SINGLE: NationalTables =
    tables("Turkish single shift", &gsm7::TURKISH_SINGLE, Some(1), None);
static SPANISH_SINGLE: NationalTables =
    tables("Spanish single shift", &gsm7::SPANISH_SINGLE, Some(2), None);
static PORTUGUESE_BOTH: NationalTables = tables(
    "Portuguese locking and single shift",
    &gsm7::PORTUGUESE_BOTH,
    Some(3),
    Some(3),
);
static PORTUGUESE_LOCKING: NationalTables = tables(
    "Portuguese locking shift",
    &gsm7::PORTUGUESE_LOCKING,
    None,
    Some(3),
);
static PORTUGUESE_SINGLE: NationalTables = tables(
    "Portuguese single shift",
    &gsm7::PORTUGUESE_SINGLE,
    Some(3),
    None,
);

/// The tables that a language and its shift fields select.
pub(super) fn national_tables(
    language: Language,
    options: &TextOptions,
) -> &'static NationalTables {
    let locking = options.locking_shift || !options.single_shift;
    match (language, locking, options.single_shift) {
        (Language::Tr, true, true) => &TURKISH_BOTH,
        (Language::Tr, true, false) => &TURKISH_LOCKING,
        (Language::Tr, false, _) => &TURKISH_SINGLE,
        (Language::Pt, true, true) => &PORTUGUESE_BOTH,
        (Language::Pt, true, false) => &PORTUGUESE_LOCKING,
        (Language::Pt, false, _) => &PORTUGUESE_SINGLE,
        (Language::Es, _, _) => &SPANISH_SINGLE,
    }
}
