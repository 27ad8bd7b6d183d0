//! The rows that differ between two states. For verify, rebuild and tests.

use std::collections::BTreeMap;

use crate::store::{StateError, Store};

/// The rows that differ between two states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The number of differing rows in each table.
    pub rows: BTreeMap<String, u64>,
    /// The first differences, in key order.
    pub first: Vec<Difference>,
}

/// A row that differs between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table and the key of the row.
    pub row: String,
    /// The first differing line in this state. Absent if the row does not exist here.
    pub here: Option<String>,
    /// The first differing line in the other state.
    pub other: Option<String>,
}

type RawRow = (sled::IVec, sled::IVec);

impl Store {
    /// Compares every row, after a write-back of both states. Names the first `most` rows.
    ///
    /// # Errors
    /// Rows cannot be read or written back.
    pub fn differences(&self, other: &Self, most: usize) -> Result<Differences, StateError> {
        self.write_back()?;
        other.write_back()?;
        let mut found = Differences::default();
        let (mut ours, mut theirs) = (self.db().iter(), other.db().iter());
        let (mut our_next, mut their_next) = (ours.next().transpose()?, theirs.next().transpose()?);
        while let Some(order) = first_of(our_next.as_ref(), their_next.as_ref()) {
            let our = if order.is_le() {
                std::mem::replace(&mut our_next, ours.next().transpose()?)
            } else {
                None
            };
            let their = if order.is_ge() {
                std::mem::replace(&mut their_next, theirs.next().transpose()?)
            } else {
                None
            };
            if our.as_ref().map(|row| &row.1) != their.as_ref().map(|row| &row.1) {
                self.note_difference(&mut found, most, our.as_ref(), their.as_ref());
            }
        }
        Ok(found)
    }

    fn note_difference(
        &self,
        found: &mut Differences,
        most: usize,
        our: Option<&RawRow>,
        their: Option<&RawRow>,
    ) {
        let state = self.read();
        let describe = |(key, value): &RawRow| {
            let known = state.tables().iter().find_map(|table| table.describe(key, value));
            known.unwrap_or_else(|| (format!("unknown {key:?}"), String::new()))
        };
        let (our, their) = (our.map(describe), their.map(describe));
        let row = our.as_ref().or(their.as_ref()).map(|(row, _)| row.clone()).unwrap_or_default();
        let table = row.split(' ').next().unwrap_or_default().to_owned();
        *found.rows.entry(table).or_default() += 1;
        if found.first.len() < most {
            let (here, other) = first_lines(our.map(|(_, row)| row), their.map(|(_, row)| row));
            found.first.push(Difference { row, here, other });
        }
    }
}

/// Returns the order of two next rows. `None` at the end of both lists.
fn first_of(this: Option<&RawRow>, that: Option<&RawRow>) -> Option<std::cmp::Ordering> {
    match (this, that) {
        (None, None) => None,
        (Some(_), None) => Some(std::cmp::Ordering::Less),
        (None, Some(_)) => Some(std::cmp::Ordering::Greater),
        (Some((this, _)), Some((that, _))) => Some(this.cmp(that)),
    }
}

/// Returns the first line that differs between two rows. A row without a partner gives its name.
fn first_lines(here: Option<String>, other: Option<String>) -> (Option<String>, Option<String>) {
    let (Some(a), Some(b)) = (&here, &other) else {
        let name = |row: String| {
            row.lines().next().unwrap_or_default().trim_end_matches([' ', '{', '(']).to_owned()
        };
        return (here.map(name), other.map(name));
    };
    let differ = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    let (a, b) = differ.unwrap_or(("in what is not shown, or in length", "likewise"));
    (Some(a.trim().to_owned()), Some(b.trim().to_owned()))
}
