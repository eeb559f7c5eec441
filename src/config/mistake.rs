//! The mistakes of a configuration, each with its key, the origin of its value, and the remedy.
//!
//! Invariant: no mistake contains the value of a secret.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The layer that set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `defaults.toml`. Also the origin of a value that no layer set.
    Default,
    /// The configuration file.
    File {
        /// As given on the command line.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The name of an environment variable.
    Environment(String),
    /// A command-line flag, such as `--grpc-listen`.
    Flag(String),
}

impl Origin {
    /// The flag of a key: `--grpc-listen` sets `grpc.listen`.
    #[must_use]
    pub fn flag_for(key: &str) -> Self {
        Self::Flag(format!("--{}", key.replace(['.', '_'], "-")))
    }

    #[must_use]
    pub fn line_of(path: &Path, line: usize) -> Self {
        Self::File {
            path: path.to_owned(),
            line,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Such as `grpc.listen`.
    pub key: String,
    pub origin: Origin,
    /// Follows the key in a sentence: "is not a known key".
    pub problem: String,
    /// An imperative: "choose 1 to 1000".
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            origin,
            problem,
            remedy,
        } = self;
        write!(f, "`{key}` ({origin}): {problem}; {remedy}")
    }
}

/// All mistakes of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    pub(super) fn unless_empty(mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(Self(mistakes))
        }
    }

    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl From<Vec<Mistake>> for ConfigErrors {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [_] => f.write_str("the configuration has a mistake:")?,
            all => write!(f, "the configuration has {} mistakes:", all.len())?,
        }
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
