//! The mode of the log's folder and files: numbers and texts in them are nobody else's business on this machine.
//!
//! A folder that exists keeps its mode, because the operator chose it. SQLite gives its other files the mode of the database.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Creates a folder that only this user can enter, with the missing ones above it.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
}

/// Creates an empty file that only this user can read, or empties one.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let file = options().truncate(true).open(path)?;
    close_to_others(path, &file);
    Ok(file)
}

/// Opens a file that only this user can read, for writing. Creates it if it is missing.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file = options().open(path)?;
    close_to_others(path, &file);
    Ok(file)
}

/// Lets only this user read a database, and the other files of it that an earlier version left. Creates it if it is missing.
pub(super) fn create_database(path: &Path) -> io::Result<()> {
    open_file(path)?;
    for suffix in ["-wal", "-shm"] {
        let mut name: OsString = path.as_os_str().to_owned();
        name.push(suffix);
        match File::open(&name) {
            Ok(file) => close_to_others(Path::new(&name), &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE);
    options
}

/// A file of an earlier version may be readable for others. Only its owner can change that.
fn close_to_others(path: &Path, file: &File) {
    let outcome = file.metadata().and_then(|metadata| {
        if metadata.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(FILE_MODE))
    });
    if let Err(error) = outcome {
        tracing::warn!(
            path = %path.display(),
            %error,
            "other users of this machine may read this file, and its mode cannot be changed"
        );
    }
}
