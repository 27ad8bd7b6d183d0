//! `triggerd backup`: makes a backup of a stopped data directory, or lets the running server make
//! it.

pub(super) mod check;
pub(super) mod drill;
mod encryption;
mod failures;
mod input;
mod job;
mod output_file;
mod place;
pub(super) mod restore;

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use self::encryption::encrypted;
use self::failures::{Packing, failure, unwritten};
use self::job::finished;
use self::output_file::OutputFile;
use self::place::{archive_at, bucket_at};
use super::Failure;
use super::admin::Admin;
use super::answer::text;
use super::client::Client;
use super::output::{counted, eprint, print, require_a_reader};
use super::reach::{Server, Settings};
use crate::backup::{Manifest, Source, make, require_outside, write_archive};
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::config::S3Url;
use crate::data_dir::LookedAt;
use crate::model::time::Timestamp;

/// The path of backups in the API.
const PATH: &str = "/api/admin/backup";
/// The target that stands for standard output.
const STDOUT: &str = "-";
/// Extensions of archives that triggerd does not write.
const OTHER_ARCHIVES: [&str; 8] = ["tar", "gz", "tgz", "xz", "bz2", "zip", "tzst", "7z"];

#[derive(Args)]
pub(super) struct Backup {
    /// Directory of backups, which is created if it is missing; a new file whose name ends in .zst
    /// or .age; s3://BUCKET/PREFIX in the place of a directory or a file; or - for standard output
    #[arg(value_name = "DIR|FILE.tar.zst|s3://BUCKET/PREFIX|-")]
    target: PathBuf,
    /// Encrypt a file or standard output for this age recipient (age1…); may be given several times
    #[arg(long, value_name = "RECIPIENT")]
    encrypt_to: Vec<String>,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    server: Server,
}

/// The place of a backup.
enum Target<'a> {
    Directory(&'a Path),
    File(&'a Path),
    Stdout,
}

impl Backup {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let target = self.target()?;
        if let Target::File(path) = target
            && S3Url::of(path).is_none()
        {
            require_outside(path).map_err(failure)?;
        }
        match (self.server.stopped(settings)?, target) {
            (Some((_, looked_at)), Target::Directory(dir)) => self.make(settings, &looked_at, dir),
            (Some((_, looked_at)), target) => {
                self.pack(settings, &target, &mut |out| packed(&looked_at, out))
            }
            (None, Target::Directory(dir)) => self.ask(&self.client(settings)?, dir),
            (None, target) => {
                let client = self.client(settings)?;
                self.pack(settings, &target, &mut |out| {
                    client.download((PATH, "application/zstd"), "the backup", out)
                })
            }
        }
    }

    fn target(&self) -> Result<Target<'_>, Failure> {
        let path = self.target.as_path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let usage = |message: String| Err(Failure::new(ExitCode::Usage, message));
        let is_sealed = !self.encrypt_to.is_empty();
        if path == Path::new(STDOUT) {
            if io::stdout().is_terminal() {
                return usage("a backup is not for a terminal; name a file, or a pipe".to_owned());
            }
            require_a_reader()?;
            return Ok(Target::Stdout);
        }
        if let Some(Err(fault)) = S3Url::of(path) {
            return usage(format!("the place of the backup {fault}"));
        }
        match extension.filter(|_| !path.is_dir()) {
            Some("age") if !is_sealed => usage(format!(
                "{} would not be encrypted; name a recipient with --encrypt-to, or a file whose \
                 name ends in .tar.zst",
                path.display()
            )),
            Some("zst" | "age") => Ok(Target::File(path)),
            Some(other) if OTHER_ARCHIVES.contains(&other) => usage(format!(
                "{}: a backup is a directory or a .tar.zst, and no .{other}",
                path.display()
            )),
            _ if is_sealed => usage(
                "--encrypt-to is for a file (FILE.tar.zst.age, s3://BUCKET/FILE.tar.zst.age) or \
                 standard output (-); a directory of backups is not encrypted"
                    .to_owned(),
            ),
            _ => Ok(Target::Directory(path)),
        }
    }

    fn client(&self, settings: &Settings) -> Result<Client, Failure> {
        self.admin.client(&self.server, settings)
    }

    /// Makes the backup of a stopped server in a directory or a bucket.
    fn make(
        &self,
        settings: &Settings,
        looked_at: &LookedAt,
        dir: &Path,
    ) -> Result<ExitCode, Failure> {
        let source = Source::of_stopped(looked_at).map_err(failure)?;
        let made = match bucket_at(dir, settings)? {
            Some(bucket) => bucket.make(&source, (now(), (None, None)), &|_| Ok(())),
            None => make(&source, dir, now(), &|_| Ok(())),
        };
        let made = made.map_err(failure)?;
        let linked = made.linked_bytes;
        self.tell(&made.path.display().to_string(), &made.manifest, linked)
    }

    fn tell(&self, path: &str, manifest: &Manifest, linked: u64) -> Result<ExitCode, Failure> {
        let line = if self.server.form.is_json() {
            json!({
                "backup": path,
                "made_at": manifest.made_at,
                "first": manifest.first,
                "end": manifest.end,
                "bytes": manifest.bytes,
                "linked_bytes": linked,
            })
            .to_string()
        } else {
            let (bytes, end) = (counted(manifest.bytes, "byte"), manifest.end);
            let how = if S3Url::of(Path::new(path)).is_some() {
                "that the bucket had already"
            } else {
                "by hard links"
            };
            format!("backup    {path}: {bytes}, {linked} of them {how}, up to position {end}")
        };
        print(&line).map(|()| ExitCode::Clean)
    }

    /// Writes an archive to a new file or to standard output, encrypted if wanted.
    fn pack(
        &self,
        settings: &Settings,
        target: &Target<'_>,
        write: &mut Packing<'_>,
    ) -> Result<ExitCode, Failure> {
        match target {
            Target::File(path) => {
                if let Some((bucket, name)) = archive_at(path, settings)? {
                    let mut archive = bucket.new_archive(&name).map_err(failure)?;
                    encrypted(&mut archive, &self.encrypt_to, write)?;
                    archive.finish().map_err(failure)?;
                } else {
                    let mut file = OutputFile::create(path)?;
                    encrypted(&mut file, &self.encrypt_to, write)?;
                    file.finish()?;
                }
                let path = path.display().to_string();
                let line = if self.server.form.is_json() {
                    json!({ "backup": path }).to_string()
                } else {
                    format!("backup    {path}")
                };
                print(&line).map(|()| ExitCode::Clean)
            }
            Target::Stdout | Target::Directory(_) => {
                encrypted(&mut io::stdout().lock(), &self.encrypt_to, write)?;
                eprint("triggerd: the backup is complete");
                Ok(ExitCode::Clean)
            }
        }
    }

    /// Lets the running server make the backup, and waits for it.
    fn ask(&self, client: &Client, dir: &Path) -> Result<ExitCode, Failure> {
        let absolute = std::path::absolute(dir).ok().filter(|_| S3Url::of(dir).is_none());
        let dir = absolute.unwrap_or_else(|| dir.to_owned());
        let body = json!({ "directory": dir }).to_string();
        self.tell_job(&finished(client, (PATH, Some(body)), "make the backup")?)
    }

    fn tell_job(&self, job: &Value) -> Result<ExitCode, Failure> {
        let line = if self.server.form.is_json() {
            job.to_string()
        } else {
            let bytes = job.get("bytes").and_then(Value::as_u64).unwrap_or_default();
            format!("backup    {}: {}", text(job, "backup"), counted(bytes, "byte"))
        };
        print(&line).map(|()| ExitCode::Clean)
    }
}

fn packed(looked_at: &LookedAt, out: &mut dyn Write) -> Result<(), Failure> {
    let source = Source::of_stopped(looked_at).map_err(failure)?;
    let written = write_archive(&source, out, now(), &|_| Ok(()));
    written.map(drop).map_err(|error| unwritten(&error))
}

fn now() -> Timestamp {
    Timestamp(Clock::system().now_ms())
}
