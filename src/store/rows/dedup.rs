//! The known dedup ids.
//!
//! Entries lie in blocks in the order of their arrival, so writing an entry costs a part of a row,
//! and forgetting the oldest entries costs only the removal of rows. An index in memory finds an
//! entry. It takes eight bytes for each entry and is computed from the blocks at the start, so a
//! new id is known to be new without reading sled.

use crate::store::error::StateError;
use crate::store::rows::schema::{DedupBlock, Meta};
use crate::store::rows::table::Table;

/// Number of buckets of the index. The first two bytes of a digest choose the bucket.
const BUCKETS: usize = 1 << 16;
/// Bits of an index entry with the number of the block. The other bits are from the digest.
const BLOCK_BITS: u32 = 24;
const BLOCK_MASK: u64 = (1 << BLOCK_BITS) - 1;
const _: () = assert!(BLOCK_BITS == 3 * u8::BITS);

/// The blocks that may hold the entry of a digest. An entry with only the same beginning of the
/// digest is found as well; the block decides.
#[derive(Debug)]
pub(crate) struct DedupIndex {
    /// Each word holds 40 bits of the digest, then the low bits of the block's number.
    buckets: Vec<Vec<u64>>,
}

impl Default for DedupIndex {
    fn default() -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS] }
    }
}

impl DedupIndex {
    /// Builds the index from the existing blocks. Blocks are read by key, because a scan of sled
    /// 0.34.7 keeps everything it has read in memory.
    pub(in crate::store) fn of(
        table: &Table<DedupBlock>,
        meta: Option<&Meta>,
    ) -> Result<Self, StateError> {
        let mut index = Self::default();
        let (first, tail) = meta.map_or((0, 0), |meta| (meta.dedup_first, meta.dedup_tail));
        for number in (0..tail.wrapping_sub(first)).map(|place| first.wrapping_add(place)) {
            index.insert_all(&*table.promised(number)?, number);
        }
        // The last block exists only when it has an entry.
        if let Some(block) = table.get(tail)? {
            index.insert_all(&block, tail);
        }
        Ok(index)
    }

    fn insert_all(&mut self, block: &DedupBlock, number: u32) {
        block.entries.iter().for_each(|entry| self.insert(entry.digest, number));
    }

    pub(crate) fn insert(&mut self, digest: [u8; 14], block: u32) {
        let (bucket, word) = place(digest, block);
        if let Some(words) = self.buckets.get_mut(bucket) {
            if words.len() == words.capacity() {
                // All buckets grow alike: doubling would double the whole index at once.
                words.reserve_exact(words.len() / 4 + 4);
            }
            words.push(word);
        }
    }

    pub(crate) fn remove(&mut self, digest: [u8; 14], block: u32) {
        let (bucket, word) = place(digest, block);
        if let Some(words) = self.buckets.get_mut(bucket)
            && let Some(at) = words.iter().position(|known| *known == word)
        {
            words.swap_remove(at);
        }
    }

    /// Returns the blocks that may hold the digest, as numbers from `first` on.
    pub(in crate::store) fn candidates(
        &self,
        digest: [u8; 14],
        first: u32,
    ) -> impl Iterator<Item = u32> + '_ {
        let (bucket, wanted) = place(digest, 0);
        let words = self.buckets.get(bucket).map_or(&[][..], Vec::as_slice);
        words.iter().filter(move |word| **word & !BLOCK_MASK == wanted).map(move |word| {
            let beyond_first = (word & BLOCK_MASK).wrapping_sub(u64::from(first)) & BLOCK_MASK;
            let [.., high, middle, low] = beyond_first.to_be_bytes();
            first.wrapping_add(u32::from_be_bytes([0, high, middle, low]))
        })
    }
}

/// Returns the bucket and the word of an entry.
fn place(digest: [u8; 14], block: u32) -> (usize, u64) {
    let [b0, b1, t0, t1, t2, t3, t4, ..] = digest;
    let tag = u64::from_be_bytes([0, 0, 0, t0, t1, t2, t3, t4]);
    (usize::from(u16::from_be_bytes([b0, b1])), tag << BLOCK_BITS | u64::from(block) & BLOCK_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bucket: u8, tag: u8, rest: u8) -> [u8; 14] {
        let mut digest = [rest; 14];
        digest[1] = bucket;
        digest[0] = 0;
        digest[2..7].fill(tag);
        digest
    }

    fn found(index: &DedupIndex, digest: [u8; 14], first: u32) -> Vec<u32> {
        index.candidates(digest, first).collect()
    }

    #[test]
    fn an_entry_is_found_in_its_block_until_it_is_removed_from_it() {
        let mut index = DedupIndex::default();
        index.insert(digest(1, 7, 0), 5);
        index.insert(digest(1, 7, 0), 9);
        index.insert(digest(1, 8, 0), 5);
        index.insert(digest(2, 7, 0), 5);
        assert_eq!(found(&index, digest(1, 7, 0), 0), [5, 9]);
        assert_eq!(found(&index, digest(1, 7, 99), 0), [5, 9], "the block tells these apart");
        assert_eq!(found(&index, digest(1, 9, 0), 0), [0; 0]);
        index.remove(digest(1, 7, 0), 5);
        assert_eq!(found(&index, digest(1, 7, 0), 0), [9]);
        assert_eq!(found(&index, digest(1, 8, 0), 0), [5]);
    }

    #[test]
    fn block_numbers_are_whole_beyond_the_bits_that_are_kept() {
        let mut index = DedupIndex::default();
        let first = (3 << BLOCK_BITS) - 1;
        index.insert(digest(0, 0, 0), first);
        index.insert(digest(0, 0, 0), first + 1);
        assert_eq!(found(&index, digest(0, 0, 0), first), [first, first + 1]);
    }
}
