//! Checks that the folder of the event log can be used, by creating what is missing and a file in it. Nothing of it is left.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// # Errors
/// The system's error.
pub(super) fn try_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_owned)
        .collect();
    let tried = fs::create_dir_all(folder).and_then(|()| {
        let probe = folder.join(format!(".smsbridge-check-{}", std::process::id()));
        fs::File::create(&probe)?;
        fs::remove_file(&probe)
    });
    for created in missing {
        // It fails where it was not created, or where another process has put something into it meanwhile.
        let _ = fs::remove_dir(created);
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        try_folder(&folder.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(try_folder(&folder.path().join("file/below")).is_err());
        assert!(try_folder(&folder.path().join("file")).is_err());
        try_folder(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
