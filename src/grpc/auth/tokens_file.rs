//! The tokens file (`grpc.tokens_file`), read again when it changes.
//!
//! Invariants: a file that can't be read, is wrong or has no tokens leaves the tokens of the last good one valid; no token is ever
//! logged. Neighbours: `config::tokens` parses the file, `ops::reload` calls [`Reload::reload`].

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;

use super::quota::Limit;
use crate::{
    config::tokens::{Tokens, TokensError},
    message::{applications::Applications, id::ApplicationName},
    ops::{metrics::ReloadedFiles, reload::Reload},
};

/// Why the tokens file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensFileError {
    /// The file can't be read.
    #[error("can't read {path} (grpc.tokens_file): {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file has mistakes.
    #[error("{path} (grpc.tokens_file) is wrong: {source}")]
    Wrong { path: PathBuf, source: TokensError },
    /// The file that replaced a good one has no tokens.
    #[error(
        "{path} (grpc.tokens_file) has no tokens: it may be in the middle of a change; to withdraw all tokens, restart the bridge"
    )]
    Empty { path: PathBuf },
}

/// The tokens file and what it contained when it was last good.
pub(in crate::grpc) struct TokensFile {
    path: PathBuf,
    current: RwLock<Arc<LoadedTokens>>,
    /// Learns those of the tokens.
    applications: Applications,
}

/// The content of a tokens file, and the quota of each token by its name.
pub(super) struct LoadedTokens {
    text: String,
    pub(super) tokens: Tokens,
    pub(super) limits: HashMap<String, Arc<Limit>>,
}

impl TokensFile {
    /// # Errors
    /// [`TokensFileError`] names the file and the key.
    pub(super) fn read(path: &Path, applications: Applications) -> Result<Self, TokensFileError> {
        let known = LoadedTokens::parse(path, read_text(path)?, &HashMap::new())?;
        applications.set_of_tokens(known.applications());
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(known)),
            applications,
        })
    }

    pub(in crate::grpc) fn count(&self) -> usize {
        self.known().tokens.grants().count()
    }

    pub(super) fn known(&self) -> Arc<LoadedTokens> {
        Arc::clone(&self.current.read())
    }
}

impl Reload for TokensFile {
    const NAME: &'static str = "the tokens file";
    const FILES: ReloadedFiles = ReloadedFiles::Tokens;
    const INTERVAL: Duration = Duration::from_secs(1);

    fn reload(&self) -> Result<bool, String> {
        let text = read_text(&self.path).map_err(|error| error.to_string())?;
        let before = self.known();
        if text == before.text {
            return Ok(false);
        }
        let known = LoadedTokens::parse(&self.path, text, &before.limits)
            .map_err(|error| error.to_string())?;
        if known.tokens.grants().next().is_none() {
            let path = self.path.clone();
            return Err(TokensFileError::Empty { path }.to_string());
        }
        self.applications.set_of_tokens(known.applications());
        *self.current.write() = Arc::new(known);
        Ok(true)
    }
}

fn read_text(path: &Path) -> Result<String, TokensFileError> {
    fs::read_to_string(path).map_err(|source| TokensFileError::Read {
        path: path.to_owned(),
        source,
    })
}

impl LoadedTokens {
    /// `limits` are those of the tokens before: one whose rate is the same keeps what is used of it.
    fn parse(
        path: &Path,
        text: String,
        limits: &HashMap<String, Arc<Limit>>,
    ) -> Result<Self, TokensFileError> {
        let tokens = Tokens::parse(&text).map_err(|source| TokensFileError::Wrong {
            path: path.to_owned(),
            source,
        })?;
        let limits = tokens.grants().filter_map(|grant| {
            let calls_per_second = grant.calls_per_second?;
            let kept = limits.get(&grant.name).cloned();
            let kept = kept.filter(|limit| limit.calls_per_second == calls_per_second);
            let limit = kept.unwrap_or_else(|| Limit::new(calls_per_second));
            Some((grant.name.clone(), limit))
        });
        Ok(Self {
            limits: limits.collect(),
            tokens,
            text,
        })
    }

    fn applications(&self) -> impl Iterator<Item = &ApplicationName> {
        self.tokens.grants().map(|grant| &grant.application)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_does_not_give_quotas_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let entry = |name: &str, digit: char, rate: u32| {
            let hash = digit.to_string().repeat(64);
            format!(
                "[[token]]\nname = \"{name}\"\nhash = \"sha256:{hash}\"\napplication = \"shop\"\ncalls_per_second = {rate}\n"
            )
        };
        fs::write(&path, entry("one", '0', 1)).unwrap();
        let file = TokensFile::read(&path, Applications::default()).unwrap();
        let limit = || Arc::clone(&file.known().limits["one"]);
        limit().take().unwrap();
        fs::write(&path, entry("one", '0', 1) + &entry("two", '1', 5)).unwrap();
        assert_eq!(file.reload(), Ok(true));
        assert!(limit().take().is_err(), "it is used up");
        fs::write(&path, entry("one", '0', 7)).unwrap();
        assert_eq!(file.reload(), Ok(true));
        limit().take().expect("another rate is a new quota");
    }

    /// Without a change of its time or size, as after a repair of its mode.
    #[test]
    fn a_file_that_could_not_be_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let entry = |name: &str| {
            let hash = "0".repeat(64);
            format!(
                "[[token]]\nname = \"{name}\"\nhash = \"sha256:{hash}\"\napplication = \"shop\"\n"
            )
        };
        fs::write(&path, entry("one")).unwrap();
        let file = TokensFile::read(&path, Applications::default()).unwrap();
        let repaired = folder.path().join("repaired");
        fs::write(&repaired, entry("two")).unwrap();
        fs::remove_file(&path).unwrap();
        // Reading a folder fails.
        fs::create_dir(&path).unwrap();
        assert!(file.reload().is_err());
        fs::remove_dir(&path).unwrap();
        fs::rename(&repaired, &path).unwrap();
        assert_eq!(file.reload(), Ok(true));
        assert_eq!(file.known().tokens.grants().next().unwrap().name, "two");
    }

    /// A file that is written in two steps is empty between them.
    #[test]
    fn a_file_without_tokens_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let hash = "0".repeat(64);
        let entry = |name: &str| {
            format!(
                "[[token]]\nname = \"{name}\"\nhash = \"sha256:{hash}\"\napplication = \"shop\"\n"
            )
        };
        fs::write(&path, entry("one")).unwrap();
        let file = TokensFile::read(&path, Applications::default()).unwrap();
        let names = || -> Vec<String> {
            let known = file.known();
            known
                .tokens
                .grants()
                .map(|grant| grant.name.clone())
                .collect()
        };
        for without in ["", "\n", "# one = two\n"] {
            fs::write(&path, without).unwrap();
            let problem = file.reload().unwrap_err();
            assert!(problem.contains("no token"), "{problem}");
            assert_eq!(names(), ["one"]);
        }
        fs::write(&path, entry("two")).unwrap();
        assert_eq!(file.reload(), Ok(true));
        assert_eq!(names(), ["two"]);
    }
}
