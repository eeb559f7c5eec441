//! Appends an entry to the tokens file, all of it or nothing.
//!
//! Invariants: the file is never seen half written, as a running bridge reloads it; two commands cannot lose each other's
//! entry; owner, group and mode of an existing file are kept, a new one is readable by its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use crate::{cli::CliError, config::tokens::Tokens};

/// Appends `entry` and returns the path of the file.
///
/// # Errors
/// [`CliError::Usage`] if the file cannot be read or the bridge would refuse it with this entry; [`CliError::Failed`] if it
/// cannot be written.
pub(super) fn append(file: &Path, entry: &str) -> Result<PathBuf, CliError> {
    // The rename must replace the file, not a link to it.
    let file = match fs::canonicalize(file) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(cannot("read", file, &error)),
    };
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = file.with_file_name(name);
    // The draft is also the lock against other commands.
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft);
    let written = match opened {
        Ok(new) => write(new, &file, &draft, entry),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CliError::Failed(format!(
                "{} exists: another command is adding a token, or one was killed; in that case delete it",
                draft.display()
            )));
        }
        Err(error) => return Err(cannot("write", &draft, &error)),
    };
    if written.is_err() {
        // The other error is the one to report.
        let _ = fs::remove_file(&draft);
    }
    written?;
    Ok(file)
}

fn write(mut new: File, file: &Path, draft: &Path, entry: &str) -> Result<(), CliError> {
    let failed = |error: &io::Error| cannot("write", file, error);
    let mut text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot("read", file, &error)),
    };
    if let Ok(metadata) = fs::metadata(file) {
        let (owner, group) = (metadata.uid(), metadata.gid());
        fchown(&new, Some(owner), Some(group)).map_err(|error| {
            CliError::Failed(format!(
                "cannot keep the owner of {} (uid {owner}, gid {group}): {error}; run the command as this user or as root",
                file.display()
            ))
        })?;
        new.set_permissions(metadata.permissions())
            .map_err(|error| failed(&error))?;
    }
    if !text.is_empty() {
        let is_line = text.ends_with('\n');
        text.push_str(if is_line { "\n" } else { "\n\n" });
    }
    text.push_str(entry);
    Tokens::parse(&text)
        .map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?;
    new.write_all(text.as_bytes())
        .and_then(|()| new.sync_all())
        .and_then(|()| fs::rename(draft, file))
        .map_err(|error| failed(&error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::Usage(format!("cannot {what} {}: {error}", path.display()))
}
