//! A bounded memory: two generations, of which the older one is forgotten when the younger is full.

use std::{collections::HashMap, hash::Hash};

/// A map that forgets the oldest entries: between `N` and `2 * N` of them stay.
pub struct Generations<K, V, const N: usize> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V, const N: usize> Default for Generations<K, V, N> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq, V, const N: usize> Generations<K, V, N> {
    /// Adds an entry, or replaces it.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= N {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }

    /// The entry with this key, as long as it is remembered.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_keep_the_youngest_and_stay_bounded() {
        let mut map = Generations::<u32, u32, 10>::default();
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
