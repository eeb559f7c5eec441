//! A request for a page of dead letters: what it selects, and where its page begins.
//!
//! Neighbours: `amqp::walk` reads the page, `select` chooses the letters.

use super::select::{Mistakes, Selection};
use crate::{
    amqp::walk::{NoPageToken, PageRequest, Place},
    proto::v1::{self, FieldViolation},
};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// A checked request for a page.
pub(super) struct ListRequest {
    pub(super) selection: Selection,
    pub(super) page: PageRequest,
}

impl ListRequest {
    /// All mistakes at once.
    pub(super) fn read(
        request: v1::ListDeadLettersRequest,
        visible: Option<String>,
    ) -> Result<Self, Vec<FieldViolation>> {
        let mut mistakes = Mistakes::default();
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        if limit > MAX_LIMIT {
            mistakes.add("limit", format!("must be between 1 and {MAX_LIMIT}"));
        }
        let selection = Selection::read(Vec::new(), request.filter, visible)
            .map_err(|found| mistakes.0.extend(found))
            .unwrap_or_default();
        let token = Place::read(&request.page_token);
        match &token {
            Ok(Some((selected, _))) if mistakes.0.is_empty() && *selected != selection.digest() => {
                mistakes.add("page_token", "is the token of a list with another filter");
            }
            Ok(_) => {}
            Err(NoPageToken) => mistakes.add("page_token", "is not a page token of this method"),
        }
        match token {
            Ok(token) if mistakes.0.is_empty() => Ok(Self {
                selection,
                page: PageRequest {
                    token: request.page_token,
                    place: token.map(|(_, place)| place),
                    limit: if limit == 0 { DEFAULT_LIMIT } else { limit },
                },
            }),
            _ => Err(mistakes.0),
        }
    }
}
