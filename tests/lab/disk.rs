//! A separate filesystem: ext4 in a file on a loop device, which can be cut off as by a power cut, or
//! a filesystem in memory.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::until;

/// A mounted filesystem, unmounted when dropped.
pub(crate) struct Disk {
    /// The file that holds the filesystem. Absent if it is in memory.
    image: Option<PathBuf>,
    pub(crate) mount: PathBuf,
    mounted: bool,
}

/// Cuts the power by `EXT4_IOC_SHUTDOWN` (`_IOR('X', 125, __u32)`) with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: from then on nothing reaches the disk, not even the rest of
/// ext4's own journal in memory. The script waits for a line, because an interpreter takes a while
/// to start.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
mount, flags = os.open(sys.argv[1], os.O_RDONLY), struct.pack('I', 2)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(mount, 0x8004587d, flags)";

fn run(command: &mut Command) -> Result<(), String> {
    let output =
        command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {}: {}", output.status, said.trim()))
    }
}

impl Disk {
    /// Makes a filesystem of `mebibytes` MiB below `dir`.
    ///
    /// # Errors
    /// The failed command and its message.
    pub(crate) fn make(dir: &Path, name: &str, mebibytes: u64) -> Result<Self, String> {
        // Fails early if there is no Python, which cuts the power.
        run(Command::new("python3").args(["-c", "import fcntl"]))?;
        let (image, mount) = (dir.join(format!("{name}.img")), dir.join(name));
        std::fs::create_dir_all(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        let mut disk = Self { image: Some(image), mount, mounted: false };
        disk.attach()?;
        Ok(disk)
    }

    /// Makes a filesystem of `mebibytes` MiB in memory, mounted below `dir`.
    ///
    /// # Errors
    /// The failed command and its message.
    pub(crate) fn in_memory(dir: &Path, name: &str, mebibytes: u64) -> Result<Self, String> {
        let mount = dir.join(name);
        std::fs::create_dir_all(&mount).unwrap();
        let size = format!("size={mebibytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&mount))?;
        Ok(Self { image: None, mount, mounted: true })
    }

    fn image(&self) -> &Path {
        self.image.as_ref().expect("a filesystem in memory is never cut off")
    }

    /// Mounts the image, which replays ext4's journal. With `commit=300`, ext4 writes nothing by
    /// itself for five minutes.
    fn attach(&mut self) -> Result<(), String> {
        run(Command::new("mount")
            .args(["-o", "loop,commit=300"])
            .arg(self.image())
            .arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    /// Cuts the power right after `before`. Processes on the filesystem live on; most of their
    /// calls fail.
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

    /// Mounts the image again, to see the disk as after the cut.
    pub(crate) fn remount(&mut self) {
        run(Command::new("umount").arg(&self.mount)).unwrap();
        self.mounted = false;
        // The old mount is gone when its loop device is gone. An earlier mount would show its
        // memory instead of the disk.
        until(|| {
            let attached = Command::new("losetup").arg("-j").arg(self.image()).output().unwrap();
            attached.stdout.is_empty().then_some(())
        });
        self.attach().unwrap();
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        triggerd::data_dir::free_bytes(&self.mount).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The unmount is lazy: a server that a failed scenario left behind may still be stopping.
        if self.mounted
            && let Err(error) = run(Command::new("umount").arg("-l").arg(&self.mount))
        {
            println!("{error}");
        }
    }
}
