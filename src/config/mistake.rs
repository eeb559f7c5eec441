//! What is wrong with a configuration: every mistake with its key, where its value came from, and the remedy.
//!
//! Invariant: no mistake ever carries the value of a secret.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `defaults.toml`, or nowhere: nobody set it.
    Default,
    /// A line of the configuration file, counted from 1.
    File {
        /// As it was named.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line, such as `--grpc-listen`.
    Flag(String),
}

impl Origin {
    /// The origin of what a flag says for a key: `grpc.listen` comes from `--grpc-listen`.
    #[must_use]
    pub fn flag_for(key: &str) -> Self {
        Self::Flag(format!("--{}", key.replace(['.', '_'], "-")))
    }

    /// The origin of the `line` of a file.
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

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `grpc.listen`.
    pub key: String,
    /// Where its value came from.
    pub origin: Origin,
    /// What is wrong, without the value of a secret.
    pub problem: String,
    /// What to do about it.
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

/// Every mistake of a configuration, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    /// `Err` where there are mistakes.
    pub(super) fn unless_empty(mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(Self(mistakes))
        }
    }

    /// All of them, in the order of their keys' discovery.
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
