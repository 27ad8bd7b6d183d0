//! Every row as text, to compare two states. Secrets print as `…`, key hashes as they are.

use crate::store::{StateError, Store};

impl Store {
    /// Returns all rows of all tables, a line for each, in key order. Not for a running server,
    /// because it reads everything.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn dump(&self) -> Result<String, StateError> {
        let state = self.read();
        let mut text = String::new();
        for table in state.tables() {
            text.push_str("# ");
            text.push_str(table.name());
            text.push('\n');
            table.dump(&mut |line| {
                text.push_str(&line);
                text.push('\n');
            })?;
        }
        Ok(text)
    }
}
