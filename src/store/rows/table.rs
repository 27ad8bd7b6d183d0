//! A table: its part of the sled tree, and a layer of fresh rows above. Reads look in the layer
//! first. Writes go only to the layer, until the write-back.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::ops::{Bound, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::failpoint::{self, Switch};
use crate::store::error::StateError;
use crate::store::rows::row::Row;
use crate::store::rows::row_bytes::{
    KeyedRow, Pair, parse_key, read_pair, read_pair_shared, read_row, tree_key, write_row,
};
use crate::store::rows::row_key::RowKey;

/// A table of any row type.
pub(crate) trait AnyTable {
    fn name(&self) -> &'static str;
    /// Returns the number of rows that a write-back removes from memory, or writes if all rows
    /// stay.
    fn layer_rows(&self) -> usize;
    /// Returns the number of rows that sled does not have yet.
    fn fresh_rows(&self) -> usize;
    /// Returns roughly the bytes of the fresh rows. Looks at each of them.
    fn fresh_bytes(&self) -> usize;
    /// Takes the fresh rows for writing. They count as changed again only after another change.
    fn take_fresh(&mut self) -> Box<dyn Fresh>;
    /// Returns the fresh rows as they are. They stay fresh.
    fn peek_fresh(&self) -> Box<dyn Fresh>;
    /// Returns the row's value in the present version. `None` if the row is another table's.
    fn upgraded<'a>(
        &self,
        key: &[u8],
        value: &'a [u8],
    ) -> Option<Result<Cow<'a, [u8]>, StateError>>;
    /// Inserts a row of a snapshot as a fresh row. Returns false if the row is another table's.
    fn insert_raw(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StateError>;
    /// Reads from another tree from now on, which has the same rows.
    fn use_tree(&mut self, tree: &sled::Tree);
    /// Removes the written rows from the layer, except rows that changed meanwhile.
    fn written_back(&mut self);
    /// Describes a row of sled: its table and key, and its content. `None` if it is another
    /// table's.
    fn describe(&self, key: &[u8], value: &[u8]) -> Option<(String, String)>;
    /// Passes every row to `line`, as text, in key order.
    fn dump(&self, line: &mut dyn FnMut(String)) -> Result<(), StateError>;
}

/// The rows of one table on their way to sled.
pub(crate) trait Fresh {
    /// Passes each row to `take`. Returns their number.
    fn each(&self, take: TakeFresh<'_>) -> Result<usize, StateError>;
}

/// Called with the key of a fresh row, its value, and true if sled may have a row with this key.
/// Without a value, the row is to be removed.
pub(crate) type TakeFresh<'a> =
    &'a mut dyn FnMut(Vec<u8>, Option<Vec<u8>>, bool) -> Result<(), StateError>;

/// A fresh row on its way to sled.
struct FreshRow<R: Row> {
    key: R::Key,
    /// Absent if the row is to be removed.
    row: Option<Arc<R>>,
    /// Set if sled may have a row with this key.
    in_tree: bool,
}

struct FreshRows<R: Row>(Vec<FreshRow<R>>);

impl<R: Row> Fresh for FreshRows<R> {
    fn each(&self, take: TakeFresh<'_>) -> Result<usize, StateError> {
        for FreshRow { key, row, in_tree } in &self.0 {
            let value = row.as_ref().map(|row| write_row(row.as_ref())).transpose()?;
            take(tree_key::<R>(*key), value, *in_tree)?;
        }
        Ok(self.0.len())
    }
}

/// One table and the fresh rows above it.
#[derive(Debug)]
pub(crate) struct Table<R: Row> {
    tree: sled::Tree,
    layer: BTreeMap<R::Key, Slot<R>>,
    dirty: usize,
    /// Set when a row cannot be read; see [`crate::store::Store::is_broken`].
    broken: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Slot<R> {
    /// The row. Absent if it was removed.
    row: Option<Arc<R>>,
    dirty: bool,
    /// Set if sled may have a row with this key.
    in_tree: bool,
}

impl<R: Row> Table<R> {
    pub(super) fn open(db: &sled::Db, broken: &Arc<AtomicBool>) -> Result<Self, StateError> {
        let broken = Arc::clone(broken);
        let mut table = Self { tree: (**db).clone(), layer: BTreeMap::new(), dirty: 0, broken };
        if R::RESIDENT {
            for pair in table.tree.scan_prefix([R::PREFIX]) {
                let (key, row) = read_pair::<R>(pair)?;
                table
                    .layer
                    .insert(key, Slot { row: Some(Arc::new(row)), dirty: false, in_tree: true });
            }
        }
        Ok(table)
    }

    /// Returns the row, if there is a row with this key.
    pub(crate) fn get(&self, key: R::Key) -> Result<Option<Arc<R>>, StateError> {
        match self.layer.get(&key) {
            Some(slot) => Ok(slot.row.clone()),
            None if R::RESIDENT => Ok(None),
            None => self.get_from_tree(key),
        }
    }

    /// Returns the row that another row refers to.
    pub(crate) fn promised(&self, key: R::Key) -> Result<Arc<R>, StateError> {
        let row = self.get(key)?;
        self.noted(|| row.ok_or_else(|| missing::<R>(key)))
    }

    /// Returns the last row from `lowest` to `key` in the layer. Does not ask sled.
    pub(crate) fn fresh_at_or_before(
        &self,
        lowest: R::Key,
        key: R::Key,
    ) -> Option<(R::Key, Arc<R>)> {
        let (key, slot) = self.layer.range(lowest..=key).next_back()?;
        Some((*key, slot.row.clone()?))
    }

    /// Returns all rows of a resident table.
    pub(crate) fn resident(&self) -> impl Iterator<Item = (R::Key, &Arc<R>)> {
        self.layer.iter().filter_map(|(key, slot)| Some((*key, slot.row.as_ref()?)))
    }

    /// Returns a row that will be changed, and keeps it in the layer until the next write-back.
    pub(crate) fn load(&mut self, key: R::Key) -> Result<Option<&R>, StateError> {
        if !self.layer.contains_key(&key) {
            let Some(row) = self.get_from_tree(key)? else { return Ok(None) };
            self.layer.insert(key, Slot { row: Some(row), dirty: false, in_tree: true });
        }
        Ok(self.layer.get(&key).and_then(|slot| slot.row.as_deref()))
    }

    /// Returns the row to change it, and marks it as changed.
    pub(crate) fn edit(&mut self, key: R::Key) -> Result<Option<&mut R>, StateError> {
        if self.load(key)?.is_none() {
            return Ok(None);
        }
        let Some(slot) = self.layer.get_mut(&key) else { return Ok(None) };
        let Some(row) = &mut slot.row else { return Ok(None) };
        self.dirty += usize::from(!std::mem::replace(&mut slot.dirty, true));
        Ok(Some(Arc::make_mut(row)))
    }

    /// Returns the row that another row refers to, to change it.
    pub(crate) fn edit_promised(&mut self, key: R::Key) -> Result<&mut R, StateError> {
        self.edit(key)?.ok_or_else(|| missing::<R>(key))
    }

    /// Returns the row to change it. Creates the row if it is missing.
    pub(crate) fn edit_or_insert(
        &mut self,
        key: R::Key,
        new: impl FnOnce() -> R,
    ) -> Result<&mut R, StateError> {
        if self.edit(key)?.is_none() {
            let in_tree = self.layer.get(&key).is_some_and(|slot| slot.in_tree);
            self.set(key, Slot { row: Some(Arc::new(new())), dirty: true, in_tree });
        }
        self.edit(key)?.ok_or_else(|| StateError::Rows(format!("a row of {} vanished", R::NAME)))
    }

    /// Like [`Table::edit_or_insert`]. Does not ask sled unless the row is `known` to be there.
    pub(crate) fn edit_or_insert_beside(
        &mut self,
        known: bool,
        key: R::Key,
        new: impl FnOnce() -> R,
    ) -> Result<&mut R, StateError> {
        if !known && !self.layer.contains_key(&key) {
            self.insert_new(key, new());
            return self
                .edit(key)?
                .ok_or_else(|| StateError::Rows(format!("a row of {} vanished", R::NAME)));
        }
        self.edit_or_insert(key, new)
    }

    /// Returns true if sled may have a row with this key.
    pub(crate) fn may_be_in_tree(&self, key: R::Key) -> bool {
        self.layer.get(&key).is_none_or(|slot| slot.in_tree)
    }

    /// Inserts a row with a key that was never used. If it is removed soon, sled never gets it.
    pub(crate) fn insert_new(&mut self, key: R::Key, row: R) {
        let in_tree = self.layer.get(&key).is_some_and(|slot| slot.in_tree);
        self.set(key, Slot { row: Some(Arc::new(row)), dirty: true, in_tree });
    }

    /// Inserts or replaces a row.
    pub(crate) fn put(&mut self, key: R::Key, row: R) {
        self.set(key, Slot { row: Some(Arc::new(row)), dirty: true, in_tree: true });
    }

    /// Removes a row. Does nothing if there is no row.
    pub(crate) fn remove(&mut self, key: R::Key) {
        let in_tree = self.layer.get(&key).is_none_or(|slot| slot.in_tree);
        self.set(key, Slot { row: None, dirty: true, in_tree });
        if !in_tree {
            self.layer.remove(&key);
            self.dirty -= 1;
        }
    }

    fn set(&mut self, key: R::Key, slot: Slot<R>) {
        let before = self.layer.insert(key, slot);
        self.dirty += usize::from(!before.is_some_and(|slot| slot.dirty));
    }

    /// Returns at most `limit` rows of the range, in order.
    pub(crate) fn range(
        &self,
        keys: RangeInclusive<R::Key>,
        limit: usize,
    ) -> Result<Vec<KeyedRow<R>>, StateError> {
        self.noted(|| self.merge(keys, false).take(limit).collect())
    }

    /// Returns at most `limit` rows of the range, from the end.
    pub(crate) fn range_back(
        &self,
        keys: RangeInclusive<R::Key>,
        limit: usize,
    ) -> Result<Vec<KeyedRow<R>>, StateError> {
        self.noted(|| self.merge(keys, true).take(limit).collect())
    }

    /// Returns the row with the greatest key from `lowest` to `key`, and nothing if this row was
    /// removed since the last write-back. Unlike [`Table::last`], it does not go on to the row
    /// before: while the disk is short nothing is written back, so the removed rows are many. For
    /// tables in which no other row takes over what a removed row stood for.
    pub(crate) fn at_or_before(
        &self,
        lowest: R::Key,
        key: R::Key,
    ) -> Result<Option<KeyedRow<R>>, StateError> {
        let fresh = self.layer.range(lowest..=key).next_back();
        let from = fresh.map_or_else(
            || Bound::Included(tree_key::<R>(lowest)),
            |(fresh, _)| Bound::Excluded(tree_key::<R>(*fresh)),
        );
        let in_tree = self.noted(|| {
            let range = (from, Bound::Included(tree_key::<R>(key)));
            let found = (!R::RESIDENT).then(|| self.tree.range(range).next_back()).flatten();
            found.map(read_pair_shared::<R>).transpose()
        })?;
        Ok(in_tree.or_else(|| fresh.and_then(|(key, slot)| Some((*key, slot.row.clone()?)))))
    }

    /// Returns the last row of the range.
    pub(crate) fn last(
        &self,
        keys: RangeInclusive<R::Key>,
    ) -> Result<Option<KeyedRow<R>>, StateError> {
        self.noted(|| self.merge(keys, true).next().transpose())
    }

    /// Returns all rows in order. Not for a running server.
    pub(crate) fn all(&self) -> impl Iterator<Item = Pair<R>> + '_ {
        let filled_with = |byte| R::Key::parse(&vec![byte; size_of::<<R::Key as RowKey>::Bytes>()]);
        let bounds = filled_with(0).zip(filled_with(u8::MAX));
        bounds.map(|(first, last)| self.merge(first..=last, false)).into_iter().flatten()
    }

    /// Returns the rows of the range, from the beginning or from the end.
    fn merge(&self, keys: RangeInclusive<R::Key>, backwards: bool) -> Merge<'_, R> {
        let tree_keys = tree_key::<R>(*keys.start())..=tree_key::<R>(*keys.end());
        let valid = keys.start() <= keys.end();
        let mut in_tree = (!R::RESIDENT && valid).then(|| self.tree.range(tree_keys));
        let mut in_layer = valid.then(|| self.layer.range(keys));
        let from_tree = step(&mut in_tree, backwards);
        let from_layer = step(&mut in_layer, backwards);
        Merge { backwards, in_tree, in_layer, from_tree, from_layer }
    }

    fn get_from_tree(&self, key: R::Key) -> Result<Option<Arc<R>>, StateError> {
        self.noted(|| {
            let found = self.tree.get(tree_key::<R>(key))?;
            found.map(|bytes| read_row::<R>(&bytes).map(Arc::new)).transpose()
        })
    }

    /// Returns the result of a read. A failed read also marks the state as broken.
    fn noted<T>(&self, read: impl FnOnce() -> Result<T, StateError>) -> Result<T, StateError> {
        // sled 0.34.7 panics on some kinds of damage.
        let result = catch_unwind(AssertUnwindSafe(read));
        let result = result.unwrap_or_else(|_panic| {
            Err(StateError::Rows(format!("reading {} panicked", R::NAME)))
        });
        result.inspect_err(|_| {
            self.broken.store(!failpoint::is_on(Switch::RotIgnored), Ordering::SeqCst);
        })
    }
}

/// The rows of a range, from the tree and from the layer, in one order. A row of the layer stands
/// for the row of the tree with the same key.
struct Merge<'a, R: Row> {
    backwards: bool,
    in_tree: Option<sled::Iter>,
    in_layer: Option<btree_map::Range<'a, R::Key, Slot<R>>>,
    /// The next row of the tree.
    from_tree: Option<TreePair>,
    /// The next row of the layer.
    from_layer: Option<(&'a R::Key, &'a Slot<R>)>,
}

/// A row of the tree in bytes: its key with the table's byte, and its content.
type TreePair = sled::Result<(sled::IVec, sled::IVec)>;

impl<R: Row> Merge<'_, R> {
    /// Returns the next row of the tree, and moves on in the tree.
    fn take_from_tree(&mut self) -> Option<Pair<R>> {
        let next = step(&mut self.in_tree, self.backwards);
        std::mem::replace(&mut self.from_tree, next).map(read_pair_shared::<R>)
    }

    fn comes_first(&self, a: &R::Key, b: &R::Key) -> bool {
        if self.backwards { a > b } else { a < b }
    }
}

impl<R: Row> Iterator for Merge<'_, R> {
    type Item = Pair<R>;

    fn next(&mut self) -> Option<Pair<R>> {
        loop {
            let tree_key = match &self.from_tree {
                None => None,
                Some(row) => match row.as_ref().ok().and_then(|(key, _)| parse_key::<R>(key)) {
                    Some(key) => Some(key),
                    // The row cannot be read; the rows behind it are not tried.
                    None => return self.from_tree.take().map(read_pair_shared::<R>),
                },
            };
            match (tree_key, self.from_layer) {
                (None, None) => return None,
                (Some(_), None) => return self.take_from_tree(),
                (Some(key), Some((layer_key, _))) if self.comes_first(&key, layer_key) => {
                    return self.take_from_tree();
                }
                (tree_key, Some((key, slot))) => {
                    if tree_key == Some(*key) {
                        // The layer's row is newer.
                        self.from_tree = step(&mut self.in_tree, self.backwards);
                    }
                    self.from_layer = step(&mut self.in_layer, self.backwards);
                    if let Some(row) = &slot.row {
                        return Some(Ok((*key, Arc::clone(row))));
                    }
                }
            }
        }
    }
}

/// Takes the next item of an iterator, from its beginning or from its end.
fn step<I: DoubleEndedIterator>(items: &mut Option<I>, backwards: bool) -> Option<I::Item> {
    let items = items.as_mut()?;
    if backwards { items.next_back() } else { items.next() }
}

impl<R: Row> AnyTable for Table<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn layer_rows(&self) -> usize {
        if R::RESIDENT { self.dirty } else { self.layer.len() }
    }

    fn fresh_rows(&self) -> usize {
        self.dirty
    }

    fn fresh_bytes(&self) -> usize {
        let fresh = self.layer.values().filter(|slot| slot.dirty);
        fresh
            .filter_map(|slot| slot.row.as_ref())
            .map(|row| size_of::<R>() + row.heap_bytes())
            .sum()
    }

    fn take_fresh(&mut self) -> Box<dyn Fresh> {
        let rows = self.peek_fresh();
        for slot in self.layer.values_mut().filter(|slot| slot.dirty) {
            // From now on sled may have the row at any time.
            (slot.dirty, slot.in_tree) = (false, true);
        }
        self.dirty = 0;
        rows
    }

    fn peek_fresh(&self) -> Box<dyn Fresh> {
        let fresh = self.layer.iter().filter(|(_, slot)| slot.dirty);
        let fresh = fresh.map(|(key, slot)| FreshRow {
            key: *key,
            row: slot.row.clone(),
            in_tree: slot.in_tree,
        });
        Box::new(FreshRows::<R>(fresh.collect()))
    }

    fn upgraded<'a>(
        &self,
        key: &[u8],
        value: &'a [u8],
    ) -> Option<Result<Cow<'a, [u8]>, StateError>> {
        parse_key::<R>(key)?;
        let is_present = value.first() == Some(&R::VERSION);
        Some(if is_present {
            Ok(Cow::Borrowed(value))
        } else {
            read_row::<R>(value).and_then(|row| write_row(&row)).map(Cow::Owned)
        })
    }

    fn insert_raw(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StateError> {
        let Some(key) = parse_key::<R>(key) else { return Ok(false) };
        self.insert_new(key, read_row(value)?);
        Ok(true)
    }

    fn use_tree(&mut self, tree: &sled::Tree) {
        self.tree = tree.clone();
    }

    fn written_back(&mut self) {
        let forget = failpoint::is_on(Switch::ForgetFreshRows);
        self.layer.retain(|_, slot| (slot.dirty && !forget) || (R::RESIDENT && slot.row.is_some()));
    }

    fn describe(&self, key: &[u8], value: &[u8]) -> Option<(String, String)> {
        let key = parse_key::<R>(key)?;
        let row =
            read_row::<R>(value).map_or_else(|error| error.to_string(), |row| format!("{row:#?}"));
        Some((format!("{} {key:?}", R::NAME), row))
    }

    fn dump(&self, line: &mut dyn FnMut(String)) -> Result<(), StateError> {
        let keys: Vec<_> = self.tree.scan_prefix([R::PREFIX]).keys().collect::<Result<_, _>>()?;
        let in_tree = keys.iter().filter_map(|key| parse_key::<R>(key));
        let mut keys: Vec<R::Key> = in_tree.chain(self.layer.keys().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            if let Some(row) = self.get(key)? {
                line(format!("{} {key:?} {row:?}", R::NAME));
            }
        }
        Ok(())
    }
}

fn missing<R: Row>(key: R::Key) -> StateError {
    StateError::Rows(format!("the row {key:?} of {} is missing", R::NAME))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
