//! The reserve: a file beside the log that has nothing but space. On a full disk the log takes it to remove events, and to store the
//! response of a pull, which the API does not give again.
//!
//! Invariant: the file is there or its space belongs to the log; `writer` accepts nothing else while it is not there.
//! Neighbours: `writer` decides when it is needed.

use std::{
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::private;

/// Enough for a response of `infobip.max_response_bytes` as it is by default.
const BYTES: u64 = 20 * 1024 * 1024;
/// Where the disk has no more. Enough for the write-ahead log of a step that removes events on a full disk.
const LEAST: u64 = 4 * 1024 * 1024;

pub(super) struct Reserve {
    path: PathBuf,
    /// 0: the log has its space.
    bytes: u64,
}

impl Reserve {
    /// Of an earlier process, if its file has its whole space.
    pub(super) fn find(path: PathBuf) -> Self {
        let found = fs::metadata(&path).ok();
        let found = found.filter(|found| found.blocks() * 512 >= found.len());
        let bytes = match found.map_or(0, |found| found.len()) {
            bytes @ (BYTES | LEAST) => bytes,
            _ => 0,
        };
        if bytes > 0 {
            // Closes it to others. It has nothing to read, so a failure is none of the log.
            let _ = private::open_file(&path);
        }
        Self { path, bytes }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.bytes > 0
    }

    /// Gives its space to the log.
    pub(super) fn release(&mut self) {
        self.bytes = 0;
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the reserve of the event log cannot be removed");
        }
    }

    /// Takes its space, or more of it than it has; if there is less and that will do, the least.
    pub(super) fn keep(&mut self, will_least_do: bool) -> io::Result<()> {
        if self.bytes == BYTES {
            return Ok(());
        }
        let file = private::open_file(&self.path)?;
        let mut kept = Ok(());
        let least = (will_least_do || self.bytes == LEAST).then_some(LEAST);
        for bytes in [Some(BYTES), least].into_iter().flatten() {
            kept = file
                .set_len(self.bytes)
                .and_then(|()| allocate(&file, bytes))
                .and_then(|()| file.sync_all());
            if kept.is_ok() {
                self.bytes = bytes;
                return Ok(());
            }
        }
        // A part of it is no reserve, and others need the space.
        self.release();
        kept
    }
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write(file, bytes),
        other => Ok(other?),
    }
}

/// Where the file system cannot allocate. Random bytes, because it may compress.
fn write(mut file: &File, bytes: u64) -> io::Result<()> {
    const PART: usize = 64 * 1024;
    let part: [u8; PART] = rand::random();
    file.rewind()?;
    for _ in 0..bytes / PART as u64 {
        file.write_all(&part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_its_space_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let mut reserve = Reserve::find(path.clone());
        assert!(!reserve.is_kept());
        reserve.keep(false).unwrap();
        assert!(Reserve::find(path.clone()).is_kept());
        reserve.release();
        assert!(!Reserve::find(path.clone()).is_kept());
        // A file of its length without its space.
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        assert!(!Reserve::find(path.clone()).is_kept());
        for bytes in [LEAST, BYTES] {
            write(&File::create(&path).unwrap(), bytes).unwrap();
            assert_eq!(Reserve::find(path.clone()).bytes, bytes);
        }
        // A small one grows when there is space.
        File::create(&path).unwrap();
        let mut reserve = Reserve::find(path.clone());
        allocate(&private::open_file(&path).unwrap(), LEAST).unwrap();
        reserve.bytes = LEAST;
        reserve.keep(false).unwrap();
        assert_eq!(Reserve::find(path).bytes, BYTES);
    }
}
