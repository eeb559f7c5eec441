//! The reserve: a file beside the log that has nothing but space. On a full disk the log takes it to remove events, and to store the
//! response of a pull, which the API does not give again.
//!
//! Invariant: the file is there or its space belongs to the log; `writer` accepts nothing else while it is not there.
//! Neighbours: `writer` decides when it is needed.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::private;

/// Enough for the write-ahead log of some steps of a trim, or for a response of `infobip.max_response_bytes` as it is by default.
const BYTES: u64 = 20 * 1024 * 1024;

pub(super) struct Reserve {
    path: PathBuf,
    is_kept: bool,
}

impl Reserve {
    /// Of an earlier process, if its file has its whole space.
    pub(super) fn find(path: PathBuf) -> Self {
        let is_kept = fs::metadata(&path)
            .is_ok_and(|found| found.len() == BYTES && found.blocks() * 512 >= BYTES);
        Self { path, is_kept }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Gives its space to the log.
    pub(super) fn release(&mut self) {
        self.is_kept = false;
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the reserve of the event log cannot be removed");
        }
    }

    /// Takes its space, unless it has it.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        if self.is_kept {
            return Ok(());
        }
        let kept = private::create_file(&self.path).and_then(|file| {
            allocate(&file)?;
            file.sync_all()
        });
        match kept {
            Ok(()) => self.is_kept = true,
            // A part of it is no reserve, and others need the space.
            Err(_) => self.release(),
        }
        kept
    }
}

fn allocate(file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, BYTES) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write(file),
        other => Ok(other?),
    }
}

/// Where the file system cannot allocate. Random bytes, because it may compress.
fn write(mut file: &File) -> io::Result<()> {
    const PART: usize = 64 * 1024;
    let part: [u8; PART] = rand::random();
    for _ in 0..BYTES / PART as u64 {
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
        reserve.keep().unwrap();
        assert!(Reserve::find(path.clone()).is_kept());
        reserve.release();
        assert!(!Reserve::find(path.clone()).is_kept());
        // A file of its length without its space.
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        assert!(!Reserve::find(path.clone()).is_kept());
        write(&File::create(&path).unwrap()).unwrap();
        assert!(Reserve::find(path).is_kept());
    }
}
