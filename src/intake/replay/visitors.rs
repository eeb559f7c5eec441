//! The visitors of the quarantine: one that looks for a body, one that replays, one that discards; the ids that a request names, and how its
//! visit ended.
//!
//! Neighbours: `replay` runs them, `events::quarantine` shows them the bodies.

use std::collections::HashSet;

use futures_util::{FutureExt as _, future::BoxFuture};
use uuid::Uuid;

use super::{QuarantineDesk, QuarantineError, invalid};
use crate::{
    events::quarantine::{Kept, Verdict, VisitError, Visitor, Wanted},
    ops::metrics::LetterEnd,
    proto::v1,
};

/// Ids in one request at most.
const MAX_IDS: usize = 1000;
/// The bodies that a response to a replay names because they stay.
const MAX_NAMED: usize = 100;

/// The ids of a request.
pub(super) struct Named {
    /// `None`: it names none, and is about all.
    missing: Option<HashSet<Uuid>>,
    /// As the request wrote them.
    ids: Vec<String>,
}

impl Named {
    pub(super) fn read(ids: Vec<String>) -> Result<Self, QuarantineError> {
        if ids.len() > MAX_IDS {
            let count = ids.len();
            let description = format!("has {count} elements and may have {MAX_IDS}");
            return Err(invalid("ids", description));
        }
        let uuids = ids.iter().filter_map(|id| Uuid::parse_str(id).ok());
        let missing = (!ids.is_empty()).then(|| uuids.collect());
        Ok(Self { missing, ids })
    }

    pub(super) fn wanted(&self) -> Wanted {
        self.missing.clone().map_or(Wanted::All, Wanted::Ids)
    }

    fn found(&mut self, id: Uuid) {
        if let Some(missing) = &mut self.missing {
            missing.remove(&id);
        }
    }

    fn has_found_all(&self) -> bool {
        self.missing.as_ref().is_some_and(HashSet::is_empty)
    }

    fn not_found(self) -> Vec<String> {
        let missing = self.missing.unwrap_or_default();
        let is_missing = |id: &String| Uuid::parse_str(id).map_or(true, |id| missing.contains(&id));
        let mut not_found: Vec<_> = self.ids.into_iter().filter(is_missing).collect();
        not_found.sort_unstable();
        not_found.dedup();
        not_found
    }
}

/// How a replay or a discard ended.
pub(super) struct End {
    pub(super) not_found: Vec<String>,
    pub(super) incomplete: bool,
    pub(super) detail: String,
}

impl End {
    /// # Errors
    /// What ended it, if nothing was done.
    pub(super) fn of(
        ended: Result<(), VisitError>,
        count: i32,
        named: Named,
    ) -> Result<Self, QuarantineError> {
        match ended {
            Ok(()) => Ok(Self {
                not_found: named.not_found(),
                incomplete: false,
                detail: String::new(),
            }),
            Err(error) if count == 0 && !matches!(error, VisitError::TimeUp) => Err(error.into()),
            Err(error) => Ok(Self {
                not_found: Vec::new(),
                incomplete: true,
                detail: error.to_string(),
            }),
        }
    }
}

#[derive(Default)]
pub(super) struct Finder {
    pub(super) found: Option<Kept>,
}

impl Visitor for Finder {
    fn see(&mut self, kept: Kept) -> BoxFuture<'_, Result<Verdict, VisitError>> {
        self.found = Some(kept);
        std::future::ready(Ok(Verdict::Stays)).boxed()
    }

    fn is_done(&self) -> bool {
        self.found.is_some()
    }
}

pub(super) struct Replayer<'a> {
    pub(super) desk: &'a QuarantineDesk,
    pub(super) named: Named,
    pub(super) response: v1::ReplayQuarantinedResponse,
}

impl Visitor for Replayer<'_> {
    fn see(&mut self, kept: Kept) -> BoxFuture<'_, Result<Verdict, VisitError>> {
        async move {
            self.desk.check_open()?;
            let body = kept.quarantined;
            let processed = self.desk.process(&body).await?;
            self.named.found(body.id);
            match processed {
                Ok(parts) => {
                    self.response.count += 1;
                    self.desk.metrics.quarantine_ended(LetterEnd::Replayed);
                    Ok(Verdict::Replaced(parts))
                }
                Err(detail) => {
                    self.response.unreadable_count += 1;
                    if self.response.unreadable.len() < MAX_NAMED {
                        let id = body.id.to_string();
                        let still = v1::StillUnreadable { id, detail };
                        self.response.unreadable.push(still);
                    }
                    Ok(Verdict::Stays)
                }
            }
        }
        .boxed()
    }

    fn is_done(&self) -> bool {
        self.named.has_found_all()
    }
}

pub(super) struct Discarder<'a> {
    pub(super) desk: &'a QuarantineDesk,
    pub(super) named: Named,
    pub(super) count: i32,
}

impl Visitor for Discarder<'_> {
    fn see(&mut self, kept: Kept) -> BoxFuture<'_, Result<Verdict, VisitError>> {
        self.named.found(kept.quarantined.id);
        let open = self.desk.check_open();
        std::future::ready(open.map(|()| Verdict::Replaced(Vec::new()))).boxed()
    }

    fn removed(&mut self) {
        self.count += 1;
        self.desk.metrics.quarantine_ended(LetterEnd::Discarded);
    }

    fn is_done(&self) -> bool {
        self.named.has_found_all()
    }
}
