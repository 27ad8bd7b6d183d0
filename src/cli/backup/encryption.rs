//! Archives encrypted with age (age-encryption.org/v1). The only importer of the age crate.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use super::failures::{Packing, unread, unwritten};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::cli::failure::Failure;

/// The beginning of a file that is encrypted with age.
const AGE: &[u8] = b"age-encryption.org/";
/// The beginning of a file that is compressed with zstd.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Writes through the encryption for these recipients; without any, writes in clear.
pub(super) fn encrypted(
    out: &mut dyn Write,
    recipients: &[String],
    write: &mut Packing<'_>,
) -> Result<(), Failure> {
    if recipients.is_empty() {
        write(out)?;
        return out.flush().map_err(|error| unwritten(&error));
    }
    let parse = |text: &String| {
        text.parse::<age::x25519::Recipient>().map_err(|why| {
            let message = format!(
                "--encrypt-to: {text:?} is no age recipient ({why}); a recipient begins with age1, \
                 and `age-keygen -y` prints it"
            );
            Failure::new(ExitCode::Usage, message)
        })
    };
    let recipients = recipients.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let all = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|error| {
        Failure::new(ExitCode::Failed, format!("the backup cannot be encrypted: {error}"))
    })?;
    let mut sealed = encryptor.wrap_output(out).map_err(|error| unwritten(&error))?;
    write(&mut sealed)?;
    let out = sealed.finish().map_err(|error| unwritten(&error))?;
    out.flush().map_err(|error| unwritten(&error))
}

/// Returns the compressed archive behind a stream, which may be encrypted.
///
/// # Errors
/// The stream is no archive, or the identity does not open it.
pub(super) fn opened<'a>(
    input: impl Read + 'a,
    name: &str,
    identity: Option<&Path>,
) -> Result<Box<dyn Read + 'a>, Failure> {
    let mut input = BufReader::with_capacity(128 << 10, input);
    let start = input.fill_buf().map_err(|error| unread(name, &error))?;
    if start.starts_with(ZSTD) {
        return Ok(Box::new(input));
    }
    if !start.starts_with(AGE) {
        let message = format!(
            "{name} is no backup: neither a directory with manifest.json, nor an archive \
             (.tar.zst), nor one encrypted with age"
        );
        return Err(Failure::new(ExitCode::Damaged, message));
    }
    let Some(identity) = identity else {
        let message =
            format!("{name} is encrypted with age; name the file of your identity with --identity");
        return Err(Failure::new(ExitCode::Usage, message));
    };
    let identities = identities(identity)?;
    let decryptor = age::Decryptor::new_buffered(input).map_err(|error| locked(name, &error))?;
    let all = identities.iter().map(|identity| identity.as_ref() as &dyn age::Identity);
    let opened = decryptor.decrypt(all).map_err(|error| locked(name, &error))?;
    Ok(Box::new(opened))
}

fn identities(path: &Path) -> Result<Vec<Box<dyn age::Identity + Send + Sync>>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let message = format!("the age identity cannot be read from {}: {why}", path.display());
        Failure::new(ExitCode::Usage, message)
    };
    let file = File::open(path).map_err(|error| wrong(&io_words(&error)))?;
    let file = age::IdentityFile::from_buffer(BufReader::new(file));
    let file = file.map_err(|error| wrong(&io_words(&error)))?;
    file.into_identities().map_err(|error| wrong(&error))
}

fn locked(name: &str, error: &age::DecryptError) -> Failure {
    let (code, why) = match error {
        age::DecryptError::NoMatchingKeys => {
            (ExitCode::Failed, "it is encrypted for another identity".to_owned())
        }
        other => (ExitCode::Damaged, other.to_string()),
    };
    Failure::new(code, format!("{name} cannot be decrypted: {why}"))
}
