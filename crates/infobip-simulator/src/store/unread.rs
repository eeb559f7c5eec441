//! Unread final reports: each is returned once, oldest first.

use super::{Bulk, FinalReport, MessageStore, RowId};

impl MessageStore {
    /// Marks the final report of a message as unread.
    pub(crate) fn mark_unread(&mut self, row: RowId) {
        let seq = self.next_unread_seq;
        if let Some(message) = self.get_mut(row) {
            message.unread_seq = Some(seq);
            message.report = FinalReport::Unread;
            self.next_unread_seq += 1;
            self.unread_reports.insert(seq, row);
        }
    }

    /// Takes up to `limit` matching unread reports not older than `oldest_ms`, oldest first. Each report is returned once.
    pub(crate) fn take_unread(
        &mut self,
        bulk_ids: &[&str],
        message_ids: &[&str],
        oldest_ms: i64,
        now_ms: i64,
        limit: usize,
    ) -> Vec<RowId> {
        let mut rows: Vec<RowId> = match (message_ids, bulk_ids) {
            ([], []) => {
                // Unread reports past the retention period are dropped; the oldest come first.
                while let Some((seq, row)) = self
                    .unread_reports
                    .first_key_value()
                    .map(|(seq, row)| (*seq, *row))
                {
                    if self
                        .get(row)
                        .is_some_and(|message| message.done_at_ms >= oldest_ms)
                    {
                        break;
                    }
                    self.unread_reports.remove(&seq);
                    if let Some(message) = self.get_mut(row) {
                        message.unread_seq = None;
                        message.report = FinalReport::Dropped;
                    }
                }
                self.unread_reports.values().take(limit).copied().collect()
            }
            ([], bulk_ids) => bulk_ids
                .iter()
                .filter_map(|id| self.bulk(id))
                .flat_map(Bulk::rows)
                .collect(),
            (message_ids, _) => message_ids
                .iter()
                .flat_map(|id| self.with_id(id))
                .copied()
                .collect(),
        };
        rows.retain(|row| {
            self.get(*row).is_some_and(|message| {
                message.unread_seq.is_some()
                    && message.done_at_ms >= oldest_ms
                    && (bulk_ids.is_empty() || bulk_ids.contains(&&*message.bulk_id))
            })
        });
        rows.sort_by_key(|row| self.get(*row).and_then(|message| message.unread_seq));
        // An id may be given twice.
        rows.dedup();
        rows.truncate(limit);
        for row in &rows {
            let Some(message) = self.get_mut(*row) else {
                continue;
            };
            if let Some(seq) = message.unread_seq.take() {
                message.report = FinalReport::Pulled { at_ms: now_ms };
                self.unread_reports.remove(&seq);
            }
        }
        rows
    }

    /// Number of unread reports.
    pub(crate) fn unread_reports(&self) -> usize {
        self.unread_reports.len()
    }
}
