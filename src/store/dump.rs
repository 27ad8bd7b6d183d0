//! Every row as text: what two states are compared by. Secrets print as `…`, key hashes as they are.

use super::{StateError, Store};

impl Store {
    /// All rows of all tables, a line each, in key order. Not for a running server: it reads everything.
    ///
    /// # Errors
    /// When rows cannot be read.
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
