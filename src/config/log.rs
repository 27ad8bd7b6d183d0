//! The keys about the log.

use std::path::PathBuf;

use super::declare::section;
use super::kinds::{count, log_format, log_level, optional_path, size};
use super::values::LogFormat;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

section! {
    /// The log.
    pub struct Log {
        /// Log level: `off`, `error`, `warn`, `info`, `debug` or `trace`, or a list with levels for
        /// modules, such as `"info,triggerd::delivery=debug"`. Modules that the list does not name
        /// log from `info` on. Libraries log from `warn` on, unless the list names them:
        /// `"debug,sled=debug"`.
        level: String = log_level("level", "info").reloaded();

        /// Log format. `"json"` writes one object on each line, for machines. `"text"` is for
        /// reading. `"auto"` writes text on a terminal and JSON anywhere else. When systemd's
        /// journal reads, each line begins with its priority (`<3>` to `<7>`), which the journal
        /// removes.
        format: LogFormat = log_format("format", LogFormat::Auto);

        /// Directory for log files. A new file begins each day (UTC), and when one is full. Empty
        /// means standard output only, which journald keeps.
        directory: Option<PathBuf> = optional_path("directory");

        /// Maximum size of a log file in bytes. Together with `files_max` it limits what logs take
        /// of the disk.
        file_bytes_max: u64 = size("file_bytes_max", 64 * MIB, 64 * KIB..=GIB);

        /// Log files that are kept; the oldest are deleted.
        files_max: usize = count("files_max", 14, 1..=1000);
    }
}
