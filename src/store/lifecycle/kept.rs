//! Rows that changed since a snapshot began and that it has not read yet, with their former values.
//! The write-back keeps the values here before it changes the rows in sled. Knows no sled.

use std::collections::BTreeMap;

/// A row as sled holds it: its key with the table's byte, and its value with the version's byte.
pub type RowBytes = (Vec<u8>, Vec<u8>);

/// Rows by their keys. `None` stands for a row that is not there.
pub(super) type ChangedRows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Bytes of memory for a kept row, beside its key and its value.
pub(super) const ROW_OVERHEAD: usize = 96;

/// The kept rows of a snapshot.
#[derive(Debug)]
pub(in crate::store) struct Kept {
    /// The last key that the snapshot has read. Empty at its beginning.
    reached: Vec<u8>,
    /// The former values.
    rows: ChangedRows,
    bytes: usize,
    bytes_max: usize,
    /// Set if more changed than may be kept.
    is_over: bool,
}

impl Kept {
    /// Begins before the first row. Keeps at most `bytes_max` bytes, beside rows that sled lacks.
    /// `lacking` are these rows as the snapshot has them.
    pub(super) fn new(bytes_max: usize, lacking: ChangedRows) -> Self {
        let bytes = lacking.iter().map(|(key, value)| size_of_kept(key, value.as_ref())).sum();
        // With twice the bytes, half of the bound is as far away as without them.
        let bytes_max = bytes_max.saturating_add(2 * bytes);
        Self { reached: Vec::new(), rows: lacking, bytes, bytes_max, is_over: false }
    }

    /// Returns true if the value of the row must be kept before the row changes.
    pub(super) fn wants(&self, key: &[u8]) -> bool {
        !self.is_over && key > self.reached.as_slice() && !self.rows.contains_key(key)
    }

    /// Keeps the value that the row has before it changes.
    pub(super) fn keep(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        self.bytes += size_of_kept(key, value.as_ref());
        self.rows.insert(key.to_vec(), value);
        if self.bytes > self.bytes_max {
            (self.is_over, self.bytes) = (true, 0);
            self.rows.clear();
        }
    }

    /// Returns true if more changed than may be kept. The snapshot is lost then.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns true if the kept rows take more than half of the memory they may take.
    pub(super) fn is_half_full(&self) -> bool {
        self.is_over || self.bytes > self.bytes_max / 2
    }

    /// Returns the last key that the snapshot has read.
    pub(super) fn reached(&self) -> &[u8] {
        &self.reached
    }

    /// Returns rows as they were when the snapshot began. `rows` are all rows of sled behind the
    /// last key that was read, up to `reached`; `None` stands for the end.
    pub(super) fn as_before(
        &mut self,
        rows: Vec<RowBytes>,
        reached: Option<Vec<u8>>,
    ) -> Vec<RowBytes> {
        let beyond = match &reached {
            None => BTreeMap::new(),
            Some(key) => self.rows.split_off([key.as_slice(), &[0]].concat().as_slice()),
        };
        let former = std::mem::replace(&mut self.rows, beyond);
        let freed: usize =
            former.iter().map(|(key, value)| size_of_kept(key, value.as_ref())).sum();
        self.bytes -= freed;
        self.reached = reached.unwrap_or_default();
        if former.is_empty() {
            return rows;
        }
        let mut merged: BTreeMap<_, _> =
            rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
        merged.extend(former);
        merged.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

fn size_of_kept(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    ROW_OVERHEAD + key.len() + value.map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &str) -> RowBytes {
        (key.into(), value.into())
    }

    #[test]
    fn changed_removed_and_new_rows_are_as_they_were() {
        let mut kept = Kept::new(10_000, BTreeMap::new());
        for (key, value) in [("b", Some("old")), ("c", None), ("d", Some("gone")), ("x", None)] {
            assert!(kept.wants(key.as_bytes()));
            kept.keep(key.as_bytes(), value.map(|value| value.as_bytes().to_vec()));
            assert!(!kept.wants(key.as_bytes()), "the first value is the former one");
        }
        let in_sled = vec![row("a", "1"), row("b", "new"), row("c", "new"), row("e", "5")];
        let read = kept.as_before(in_sled, Some("e".into()));
        let expected = [row("a", "1"), row("b", "old"), row("d", "gone"), row("e", "5")];
        assert_eq!(read, expected);
        assert!(!kept.wants(b"a") && !kept.wants(b"e"), "they are read already");
        assert!(kept.wants(b"e1") && !kept.wants(b"x"));
        assert_eq!(kept.as_before(vec![row("x", "new"), row("y", "6")], None), [row("y", "6")]);
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn more_changes_than_the_bound_end_the_snapshot() {
        let mut kept = Kept::new(500, BTreeMap::new());
        (0..10_u8).for_each(|key| kept.keep(&[key + 1], Some(vec![0; 10])));
        assert!(kept.is_over() && kept.rows.is_empty() && !kept.wants(&[99]));
    }
}
