//! A small disk: a tmpfs in the mount namespace of a process that holds it. Nobody else sees it, and nothing of it is left when the test
//! ends, however it ends.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// Mounts a tmpfs of `$1` bytes at `$2`, and holds it until its stdin ends.
const HOLD: &str = "mount -t tmpfs -o \"size=$1\" none \"$2\" && echo mounted && exec cat";

pub struct SmallDisk {
    /// Where the tmpfs is in the holder's namespace.
    at: TempDir,
    holder: Child,
    /// Its user namespace has to be entered too.
    has_users: bool,
}

impl SmallDisk {
    /// `None`, with a line that says so, where neither root nor a user namespace may mount.
    pub fn mount(bytes: u64) -> Option<Self> {
        let disk = Self::mount_as(bytes, false).or_else(|| Self::mount_as(bytes, true));
        #[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
        if disk.is_none() {
            println!(
                "skipped: no small disk, because neither this user nor one of a namespace may mount here"
            );
        }
        disk
    }

    fn mount_as(bytes: u64, has_users: bool) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let mut unshare = Command::new("unshare");
        if has_users {
            unshare.arg("--map-root-user");
        }
        let mut holder = unshare
            .args(["--mount", "sh", "-c", HOLD, "sh", &bytes.to_string()])
            .arg(at.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = [0; "mounted\n".len()];
        let is_mounted = holder.stdout.as_mut().unwrap().read_exact(&mut said);
        let disk = Self {
            at,
            holder,
            has_users,
        };
        is_mounted.is_ok().then_some(disk)
    }

    /// Its folder, for a process that runs with [`SmallDisk::command`].
    pub fn folder(&self) -> &Path {
        self.at.path()
    }

    /// A program that sees the disk.
    pub fn command(&self, program: &str) -> Command {
        let of_holder = |kind: &str| format!("/proc/{}/ns/{kind}", self.holder.id());
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", of_holder("mnt")));
        if self.has_users {
            command.arg(format!("--user={}", of_holder("user")));
            command.arg("--preserve-credentials");
        }
        command.arg("--").arg(program);
        command
    }

    /// Where this process finds a file of the disk.
    pub fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.path().strip_prefix("/").unwrap())
            .join(name)
    }

    /// Fills it, except for so many bytes.
    pub fn fill(&self, but: u64) {
        let ballast = self.path("ballast");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&ballast)
            .unwrap();
        let error = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes.saturating_sub(but)).unwrap();
    }

    /// Frees what [`SmallDisk::fill`] took.
    pub fn free(&self) {
        fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The tmpfs goes with its last process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
