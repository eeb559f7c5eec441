//! A seeded random number generator.
//!
//! Invariant: the same seed and key give the same numbers on every platform and in every release, whatever other generators do.

/// A generator (SplitMix64) keyed by the seed and a name.
#[derive(Debug, Clone)]
pub(crate) struct SeededRandom(u64);

impl SeededRandom {
    /// The generator for one key: a message id, a number, a fault.
    pub(crate) fn for_key(seed: u64, key: &str) -> Self {
        // FNV-1a, because the standard hasher is not stable across platforms and releases.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The generator for the `n`th item of a kind.
    pub(crate) fn for_item(seed: u64, kind: &str, n: u64) -> Self {
        let mut random = Self::for_key(seed, kind);
        random.0 = random.0.wrapping_add(n.wrapping_mul(0xd134_2543_de82_ef95));
        random
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniformly distributed in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn unit_interval(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniformly distributed in `min..=max`.
    pub(crate) fn in_range(&mut self, min: u64, max: u64) -> u64 {
        match max.checked_sub(min).and_then(|span| span.checked_add(1)) {
            None | Some(0) => min,
            Some(span) => min + self.next_u64() % span,
        }
    }

    /// An id in the shape of a UUID.
    pub(crate) fn uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(
            (u128::from(self.next_u64()) << 64 | u128::from(self.next_u64())).to_be_bytes(),
        )
        .into_uuid()
        .to_string()
    }

    pub(crate) fn alphanumeric(&mut self, length: usize) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..length)
            .map(|_| {
                let index = usize::try_from(self.next_u64() % ALPHABET.len() as u64)
                    .expect("an index below 62 fits in a usize");
                char::from(ALPHABET[index])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_key_draw_the_same() {
        assert_eq!(
            SeededRandom::for_key(7, "a").uuid(),
            SeededRandom::for_key(7, "a").uuid()
        );
        assert_ne!(
            SeededRandom::for_key(7, "a").uuid(),
            SeededRandom::for_key(8, "a").uuid()
        );
        assert_ne!(
            SeededRandom::for_item(7, "a", 1).uuid(),
            SeededRandom::for_item(7, "a", 2).uuid()
        );
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut random = SeededRandom::for_key(1, "bounds");
        for _ in 0..1000 {
            assert!((3..=9).contains(&random.in_range(3, 9)));
            assert!((0.0..1.0).contains(&random.unit_interval()));
        }
        assert_eq!(random.in_range(5, 5), 5);
    }
}
