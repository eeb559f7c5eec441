//! The arguments of the commands that read the configuration (`serve`, `check-config`, `topology`): the file, and flags for the
//! keys that often differ between two starts. All other keys are set in the file or the environment.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CliError;
use crate::config::{Config, ConfigErrors, Loaded};

/// Flags override the environment (SMSBRIDGE_SECTION__KEY), which overrides the file.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "SMSBRIDGE_CONFIG")]
    pub config: Option<PathBuf>,
    /// URL of the API, without a path (infobip.base_url)
    #[arg(long, value_name = "URL")]
    pub infobip_base_url: Option<String>,
    /// Address of the gRPC server (grpc.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub grpc_listen: Option<String>,
    /// Address of the webhooks that Infobip calls (http.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,
    /// URL of the webhooks as Infobip reaches them (http.public_url)
    #[arg(long, value_name = "URL")]
    pub http_public_url: Option<String>,
    /// Address of probes and metrics (admin.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin_listen: Option<String>,
    /// Folder of the embedded event log (events.data_dir)
    #[arg(long, value_name = "FOLDER")]
    pub events_data_dir: Option<String>,
    /// Log filter, such as smsbridge=debug,info (log.filter)
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Log format: auto, text or json (log.format)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl ConfigArgs {
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The keys that flags set, with their values.
    #[must_use]
    pub fn flags(&self) -> Vec<(String, String)> {
        [
            ("infobip.base_url", &self.infobip_base_url),
            ("grpc.listen", &self.grpc_listen),
            ("http.listen", &self.http_listen),
            ("http.public_url", &self.http_public_url),
            ("admin.listen", &self.admin_listen),
            ("events.data_dir", &self.events_data_dir),
            ("log.filter", &self.log_filter),
            ("log.format", &self.log_format),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
        .collect()
    }

    /// Loads the configuration like [`Self::load_for_serve`], but does not require the keys that only a running bridge needs.
    ///
    /// # Errors
    /// [`CliError::Configuration`] with every mistake.
    pub fn load(&self) -> Result<Config, CliError> {
        Ok(Config::load(
            self.file(),
            process_environment(),
            &self.flags(),
        )?)
    }

    /// Loads the configuration of a bridge from the file, this process's environment and the flags.
    ///
    /// # Errors
    /// [`CliError::Configuration`] with every mistake.
    pub fn load_for_serve(&self) -> Result<Loaded, CliError> {
        Ok(Config::load_for_serve(
            self.file(),
            process_environment(),
            &self.flags(),
        )?)
    }
}

/// The environment, without names and values that are not UTF-8.
fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl From<ConfigErrors> for CliError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Configuration(errors.to_string())
    }
}
