//! Tables by address.
//!
//! A look asks them some ten thousand times. Addresses of another process's objects are spread already, and nobody chooses
//! them to collide; the standard library's hash, which is made for keys that strangers choose, would be a tenth of a look.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by address, or by an identity that is one.
pub type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Hashes one address.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The table takes its place from the low bits and seven more from the high ones: a product's high bits, folded down.
        let product = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn objects_one_behind_another_get_places_of_their_own() {
        let place = |address: u64| {
            let mut hasher = AddressHasher::default();
            hasher.write_u64(address);
            hasher.finish() & 0x3fff
        };
        let places: HashSet<u64> = (0..5000).map(|n| place(0x7f00_1234_0000 + n * 224)).collect();
        assert!(places.len() > 4000, "{}", places.len());
    }
}
