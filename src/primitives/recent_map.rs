//! A map of bounded size that forgets its oldest entries.

use std::{collections::HashMap, hash::Hash};

/// Holds at least the `N` entries that were inserted last, and at most `2 * N`.
///
/// Entries are in two generations. When the younger one has `N` entries, the older one is dropped whole, so that forgetting
/// needs no order of entries.
pub struct RecentMap<K, V, const N: usize> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V, const N: usize> Default for RecentMap<K, V, N> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq, V, const N: usize> RecentMap<K, V, N> {
    /// Adds an entry, or replaces it.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= N {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }

    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_keeps_recent_entries_and_stays_bounded() {
        let mut map = RecentMap::<u32, u32, 10>::default();
        for key in 0..1000 {
            map.insert(key, key);
            for recent in key.saturating_sub(9)..=key {
                assert_eq!(map.get(&recent), Some(&recent), "{recent} of {key}");
            }
            assert!(map.young.len() + map.old.len() <= 20);
        }
        assert_eq!(map.get(&0), None);
    }
}
