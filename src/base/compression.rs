//! Compression with zstd, of backups and of archives.

use std::io::{self, Write};

/// Level of the compression; higher levels cost more of the processor than they save.
const LEVEL: i32 = 3;

/// Returns an encoder that writes a frame with a checksum of its content.
///
/// # Errors
/// There is no memory for the encoder.
pub fn encoder<W: Write>(output: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(output, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}
