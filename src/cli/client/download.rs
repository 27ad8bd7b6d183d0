//! An answer that is written as it comes, whatever its size.

use std::io::Write;

use super::{Client, Doubt, Failure, Head, KEY_HEADER, PATIENCE, builder, cause};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;

impl Client {
    /// Sends a POST request without a body, and writes the answer of this content type to `out`.
    /// `what` names it in errors.
    ///
    /// # Errors
    /// The server refuses the request, the answer breaks off, or `out` cannot be written.
    pub(in crate::cli) fn download(
        &self,
        (path, content_type): (&str, &str),
        what: &str,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(ExitCode::Failed, format!("the answer of {}: {why}", self.shown))
        };
        let mut answer = self.runtime.block_on(async {
            let http = builder().read_timeout(PATIENCE).build();
            let http = http.map_err(|error| failed(&cause(&error)))?;
            let request = http.post(format!("{}{path}", self.url)).header(KEY_HEADER, &self.key);
            let request = request.header("Accept", content_type).header("Content-Length", "0");
            let sent = request.send().await;
            let answer = sent.map_err(|error| self.no_answer(&error, Doubt::None))?;
            let head = Head::of(&answer);
            if !head.is_success() {
                return Err(self.refused(&head, answer).await);
            }
            if !head.content_type.starts_with(content_type) {
                return Err(self.foreign(&head, ""));
            }
            Ok(answer)
        })?;
        // The writer may wait for another server, with a runtime of its own.
        loop {
            let chunk = self.runtime.block_on(answer.chunk()).map_err(|error| {
                let why = cause(&error);
                failed(&format_args!("it broke off ({why}); the server's log says why"))
            })?;
            let Some(chunk) = chunk else { return Ok(()) };
            out.write_all(&chunk).map_err(|error| {
                let message = format!("{what} cannot be written: {}", io_words(&error));
                Failure::new(ExitCode::of_io(&error, ExitCode::Failed), message)
            })?;
        }
    }
}
