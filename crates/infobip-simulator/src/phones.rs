//! The phones: every number that was sent to or that sent, by its latest activity, with its conversation.
//!
//! The rows of a conversation are a chain: a phone knows its latest message of each direction, and each message knows the
//! one before it. So that accepting a message costs one look-up of its number, however many phones and messages there are.
//!
//! Invariants: a phone exists while a stored message is its; the list of phones is ordered by `activity`, which is never used
//! twice. Neighbours: `store` and `state::inbox` add and evict messages, `http::control::phones` shows them.

use std::{collections::HashMap, sync::Arc};

use crate::store::{Message, MessageState, RowId, StateCounts};

/// The slot of a phone. A slot is used again after its phone is removed.
pub(crate) type PhoneId = u32;
/// The number of a received message, from 0.
pub(crate) type ReceivedId = u64;

/// A longer text is no number: it gets no phone.
const MAX_NUMBER_BYTES: usize = 64;

/// A number and its messages.
#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) number: Arc<str>,
    /// Grows with each message to or from any phone.
    pub(crate) activity: u64,
    /// Its latest message of each direction.
    pub(crate) last_sent: Option<RowId>,
    pub(crate) last_received: Option<ReceivedId>,
    /// Stored messages to it, and from it.
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) states: StateCounts,
    newer: Option<PhoneId>,
    older: Option<PhoneId>,
    /// The batch of changes in which it is listed already.
    pub(crate) listed_in: u64,
}

/// All phones, linked in the order of their latest activity.
#[derive(Debug, Default)]
pub(crate) struct Phones {
    slots: Vec<Phone>,
    free: Vec<PhoneId>,
    by_number: HashMap<Arc<str>, PhoneId>,
    newest: Option<PhoneId>,
    oldest: Option<PhoneId>,
    next_activity: u64,
}

/// A number as phones are found by it.
pub(crate) fn phone_number(number: &str) -> &str {
    let number = number.trim();
    number.strip_prefix('+').unwrap_or(number)
}

impl Phones {
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(crate) fn find(&self, number: &str) -> Option<PhoneId> {
        self.by_number.get(phone_number(number)).copied()
    }

    pub(crate) fn get(&self, id: PhoneId) -> Option<&Phone> {
        self.slots
            .get(id as usize)
            .filter(|phone| phone.sent + phone.received > 0)
    }

    pub(crate) fn get_mut(&mut self, id: PhoneId) -> Option<&mut Phone> {
        self.slots.get_mut(id as usize)
    }

    /// The phones after `start`, or all, newest activity first.
    pub(crate) fn newest_first(
        &self,
        start: Option<PhoneId>,
    ) -> impl Iterator<Item = (PhoneId, &Phone)> {
        let first = match start {
            Some(id) => self.get(id).and_then(|phone| phone.older),
            None => self.newest,
        };
        std::iter::successors(first, |id| self.slots[*id as usize].older)
            .map(|id| (id, &self.slots[id as usize]))
    }

    /// Adds a message to the phone that it is sent to. Returns the phone, and its message before.
    pub(crate) fn add_sent(
        &mut self,
        number: &str,
        row: RowId,
        state: MessageState,
    ) -> Option<(PhoneId, Option<RowId>)> {
        let id = self.activate(number)?;
        let phone = &mut self.slots[id as usize];
        phone.sent += 1;
        phone.states.add(state);
        Some((id, phone.last_sent.replace(row)))
    }

    /// Adds a message to the phone that sends it. Returns the phone, and its message before.
    pub(crate) fn add_received(
        &mut self,
        number: &str,
        received: ReceivedId,
    ) -> Option<(PhoneId, Option<ReceivedId>)> {
        let id = self.activate(phone_number(number))?;
        let phone = &mut self.slots[id as usize];
        phone.received += 1;
        Some((id, phone.last_received.replace(received)))
    }

    /// Removes an evicted message from its phone. The oldest message of a phone is evicted first.
    pub(crate) fn evict_sent(&mut self, message: &Message) {
        let Some(id) = message.phone else { return };
        let phone = &mut self.slots[id as usize];
        phone.sent -= 1;
        phone.states.remove(message.state());
        if phone.sent == 0 {
            phone.last_sent = None;
            self.remove_if_empty(id);
        }
    }

    pub(crate) fn evict_received(&mut self, id: PhoneId) {
        let phone = &mut self.slots[id as usize];
        phone.received -= 1;
        if phone.received == 0 {
            phone.last_received = None;
            self.remove_if_empty(id);
        }
    }

    /// Finds or adds a phone, and makes it the newest; `None` for what is no number.
    fn activate(&mut self, number: &str) -> Option<PhoneId> {
        let activity = self.next_activity;
        let id = match self.by_number.get(number) {
            Some(id) => {
                let id = *id;
                self.next_activity += 1;
                self.slots[id as usize].activity = activity;
                if self.newest == Some(id) {
                    return Some(id);
                }
                self.unlink(id);
                id
            }
            None => {
                let id = self.insert(number, activity)?;
                self.next_activity += 1;
                id
            }
        };
        self.slots[id as usize].older = self.newest;
        match self.newest {
            Some(newest) => self.slots[newest as usize].newer = Some(id),
            None => self.oldest = Some(id),
        }
        self.newest = Some(id);
        Some(id)
    }

    fn insert(&mut self, number: &str, activity: u64) -> Option<PhoneId> {
        if number.is_empty() || number.len() > MAX_NUMBER_BYTES {
            return None;
        }
        let number: Arc<str> = number.into();
        let phone = Phone {
            number: number.clone(),
            activity,
            last_sent: None,
            last_received: None,
            sent: 0,
            received: 0,
            states: StateCounts::default(),
            newer: None,
            older: None,
            listed_in: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = phone;
                id
            }
            None => {
                let id = PhoneId::try_from(self.slots.len()).ok()?;
                self.slots.push(phone);
                id
            }
        };
        self.by_number.insert(number, id);
        Some(id)
    }

    fn remove_if_empty(&mut self, id: PhoneId) {
        let phone = &self.slots[id as usize];
        if phone.sent + phone.received > 0 {
            return;
        }
        self.by_number.remove(&phone.number);
        self.unlink(id);
        self.free.push(id);
    }

    fn unlink(&mut self, id: PhoneId) {
        let phone = &mut self.slots[id as usize];
        let (newer, older) = (phone.newer.take(), phone.older.take());
        match newer {
            Some(newer) => self.slots[newer as usize].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.slots[older as usize].newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(phones: &Phones) -> Vec<&str> {
        let found = phones.newest_first(None);
        found.map(|(_, phone)| &*phone.number).collect()
    }

    #[test]
    fn phones_are_listed_by_their_latest_activity() {
        let mut phones = Phones::default();
        for (received, number) in (0..).zip(["+1", "2", "3", "1", "3"]) {
            phones.add_received(number, received);
        }
        assert_eq!(numbers(&phones), ["3", "1", "2"]);
        let id = phones.find("+1").unwrap();
        let after: Vec<_> = phones.newest_first(Some(id)).map(|(id, _)| id).collect();
        assert_eq!(after, [phones.find("2").unwrap()]);
        assert_eq!(phones.get(id).unwrap().last_received, Some(3));
    }

    #[test]
    fn a_phone_goes_with_its_last_message_and_its_slot_is_used_again() {
        let mut phones = Phones::default();
        for number in ["1", "2", "3"] {
            phones.add_received(number, 0);
        }
        let removed = phones.find("2").unwrap();
        phones.evict_received(removed);
        assert_eq!(numbers(&phones), ["3", "1"]);
        assert!(phones.get(removed).is_none());
        let (reused, before) = phones.add_received("4", 9).unwrap();
        assert_eq!((reused, before), (removed, None));
        assert_eq!(numbers(&phones), ["4", "3", "1"]);
        phones.evict_received(phones.find("1").unwrap());
        phones.evict_received(phones.find("4").unwrap());
        phones.evict_received(phones.find("3").unwrap());
        assert_eq!((phones.len(), numbers(&phones).len()), (0, 0));
    }

    #[test]
    fn what_is_no_number_gets_no_phone() {
        let mut phones = Phones::default();
        assert_eq!(phones.add_received("", 0), None);
        assert_eq!(phones.add_received(&"9".repeat(65), 0), None);
        assert!(phones.add_received("<b>\u{202e}", 0).is_some());
        assert_eq!(phones.len(), 1);
    }
}
