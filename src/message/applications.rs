//! Which applications exist: those that the configuration and the tokens file name, and `default`. Where neither names any, every
//! well-formed name is one.
//!
//! Invariants: an id, a caller or a command of an application that does not exist is never taken for one of another; the answer does
//! not depend on what was seen before. Neighbours: `app` makes it, `grpc::auth` adds the tokens and checks callers, `commands` checks
//! publishers, `intake` and `query` ask for the owners of ids.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::RwLock;

use super::id::{
    ApplicationName, DEFAULT_APPLICATION, FOREIGN_APPLICATION, IdError, split_wire_id,
};

/// Why a text names no application.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoApplication {
    #[error(transparent)]
    Name(#[from] IdError),
    #[error(
        "is none of the applications that exist: `{0}` needs a section [applications.{0}] or a token"
    )]
    Unknown(ApplicationName),
}

/// The applications that exist. Cheap to clone; clones share the tokens.
#[derive(Debug, Clone, Default)]
pub struct Applications {
    configured: Arc<BTreeSet<String>>,
    of_tokens: Arc<RwLock<BTreeSet<String>>>,
}

impl Applications {
    /// Those that the configuration names.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a String>) -> Self {
        Self {
            configured: Arc::new(configured.into_iter().cloned().collect()),
            of_tokens: Arc::default(),
        }
    }

    /// Replaces those that the tokens file names.
    pub fn set_of_tokens<'a>(&self, names: impl IntoIterator<Item = &'a ApplicationName>) {
        let names = names.into_iter().map(ToString::to_string).collect();
        *self.of_tokens.write() = names;
    }

    #[must_use]
    pub fn exists(&self, name: &ApplicationName) -> bool {
        let name = name.as_str();
        let of_tokens = self.of_tokens.read();
        let are_named = !self.configured.is_empty() || !of_tokens.is_empty();
        !are_named
            || name == DEFAULT_APPLICATION
            || self.configured.contains(name)
            || of_tokens.contains(name)
    }

    /// The application with this name.
    ///
    /// # Errors
    /// [`NoApplication`]
    pub fn named(&self, name: &str) -> Result<ApplicationName, NoApplication> {
        let name = ApplicationName::parse(name)?;
        if self.exists(&name) {
            Ok(name)
        } else {
            Err(NoApplication::Unknown(name))
        }
    }

    /// The application and the caller's id of a wire id. An id that none of the applications can have made belongs to
    /// [`FOREIGN_APPLICATION`] and is returned whole.
    #[must_use]
    pub fn owner<'a>(&self, wire_id: &'a str) -> (String, &'a str) {
        self.split(wire_id).map_or_else(
            || (FOREIGN_APPLICATION.to_owned(), wire_id),
            |(application, id)| (application.to_string(), id),
        )
    }

    /// The caller's bulk id of a wire bulk id. Empty if no caller chose it.
    #[must_use]
    pub fn callers_bulk_id(&self, wire_bulk_id: &str) -> String {
        self.split(wire_bulk_id)
            .map(|(_, bulk_id)| bulk_id.to_owned())
            .unwrap_or_default()
    }

    fn split<'a>(&self, wire_id: &'a str) -> Option<(ApplicationName, &'a str)> {
        split_wire_id(wire_id).filter(|(application, _)| self.exists(application))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(applications: &Applications, wire_id: &str) -> (String, String) {
        let (application, id) = applications.owner(wire_id);
        (application, id.to_owned())
    }

    fn pair(application: &str, id: &str) -> (String, String) {
        (application.to_owned(), id.to_owned())
    }

    #[test]
    fn every_name_is_an_application_where_none_is_named() {
        let applications = Applications::default();
        assert_eq!(owner(&applications, "shop.17"), pair("shop", "17"));
        assert_eq!(applications.callers_bulk_id("shop.b"), "b");
        assert!(applications.named("anything").is_ok());
        for reserved in ["foreign.17", "no application.17", "17"] {
            assert_eq!(owner(&applications, reserved), pair("foreign", reserved));
        }
        assert!(matches!(
            applications.named("foreign"),
            Err(NoApplication::Name(IdError::Reserved))
        ));
    }

    #[test]
    fn exactly_the_named_applications_exist() {
        let applications = Applications::new(&["billing".to_owned()]);
        let shop = ApplicationName::parse("shop").unwrap();
        assert_eq!(owner(&applications, "billing.1"), pair("billing", "1"));
        assert_eq!(owner(&applications, "default.1"), pair("default", "1"));
        assert_eq!(owner(&applications, "shop.17"), pair("foreign", "shop.17"));
        assert_eq!(applications.callers_bulk_id("shop.b"), "");
        assert_eq!(
            applications.named("shop"),
            Err(NoApplication::Unknown(shop.clone()))
        );
        // A token names it, and is withdrawn.
        applications.clone().set_of_tokens([&shop]);
        assert_eq!(owner(&applications, "shop.17"), pair("shop", "17"));
        applications.set_of_tokens([]);
        assert!(!applications.exists(&shop));
        assert!(Applications::default().exists(&shop));
    }
}
