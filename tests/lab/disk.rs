//! A filesystem of its own: ext4 in a file on a loop device, that can be cut off as a power cut would.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::until;

/// A mounted filesystem; unmounted when dropped.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mount: PathBuf,
    mounted: bool,
}

/// `EXT4_IOC_SHUTDOWN` (`_IOR('X', 125, __u32)`) with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from now on nothing reaches the disk,
/// also nothing of ext4's own journal that is still in memory.
/// Waits for a line, so that the cut comes when it is asked for and not after an interpreter has started.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
mount, flags = os.open(sys.argv[1], os.O_RDONLY), struct.pack('I', 2)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(mount, 0x8004587d, flags)";

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}: {}", output.status, said.trim())) }
}

impl Disk {
    /// Makes one of so many MiB below `dir`.
    ///
    /// # Errors
    /// Why this machine does not let us.
    pub(crate) fn make(dir: &Path, name: &str, mebibytes: u64) -> Result<Self, String> {
        // What cuts the power.
        run(Command::new("python3").args(["-c", "import fcntl"]))?;
        let (image, mount) = (dir.join(format!("{name}.img")), dir.join(name));
        std::fs::create_dir_all(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        let mut disk = Self { image, mount, mounted: false };
        disk.attach()?;
        Ok(disk)
    }

    /// Mounts it, which replays ext4's journal. `commit=300`: ext4 writes nothing of its own accord for five minutes.
    fn attach(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop,commit=300"]).arg(&self.image).arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    /// Cuts the power, right after `before`. Processes that use the filesystem live on and get errors, mostly.
    pub(crate) fn cut_power(&self, before: impl FnOnce()) {
        let mut python = Command::new("python3");
        python.args(["-c", SHUTDOWN]).arg(&self.mount).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().unwrap();
        let ready = python.stdout.as_mut().unwrap().read_exact(&mut [0; 6]);
        ready.unwrap();
        before();
        python.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert!(python.wait().unwrap().success(), "the power could not be cut");
    }

    /// What the disk holds after the cut, mounted afresh.
    pub(crate) fn remount(&mut self) {
        run(Command::new("umount").arg(&self.mount)).unwrap();
        self.mounted = false;
        // The old mount is gone when its loop device is: mounting earlier would show its memory, not the disk.
        until(|| {
            let attached = Command::new("losetup").arg("-j").arg(&self.image).output().unwrap();
            attached.stdout.is_empty().then_some(())
        });
        self.attach().unwrap();
    }

    /// Bytes that are free.
    pub(crate) fn free_bytes(&self) -> u64 {
        triggerd::data_dir::free_bytes(&self.mount).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that a failed scenario left behind may be on its way out.
        if self.mounted
            && let Err(error) = run(Command::new("umount").arg("-l").arg(&self.mount))
        {
            println!("{error}");
        }
    }
}
