//! Merges the layers (defaults < file < environment < flags), reads them and collects all mistakes.
//!
//! An invalid value is recorded and replaced by its default, then reading continues, so that one start reports every mistake.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;

use super::{
    Config, check,
    effective::{self, EffectiveValue},
    layers::{self, Node, Value, environment_path},
    mistake::{ConfigErrors, Mistake, Origin},
    read::{KeysRead, Reader, ValueError},
};

/// The content of `defaults.toml`.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A checked configuration and the origin of each value.
pub struct Loaded {
    pub config: Config,
    /// Every value that is set, by key.
    pub effective: Vec<EffectiveValue>,
}

impl Config {
    /// Loads the configuration from its layers. `flags` are keys with values, such as `("grpc.listen", "127.0.0.1:0")`.
    ///
    /// Empty environment variables are ignored.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let (loaded, mistakes) = load(file, environment, flags)?;
        ConfigErrors::unless_empty(mistakes)?;
        Ok(loaded.config)
    }

    /// As [`Config::load`] and [`Config::validate_for_serve`], with the mistakes of both.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load_for_serve(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Loaded, ConfigErrors> {
        let (loaded, mut mistakes) = load(file, environment, flags)?;
        let before = mistakes.len();
        check::serve(&loaded.config, &mut mistakes);
        for mistake in &mut mistakes[before..] {
            let set = loaded.effective.iter().find(|set| set.key == mistake.key);
            if let Some(set) = set {
                mistake.origin = set.origin.clone();
            }
        }
        ConfigErrors::unless_empty(mistakes)?;
        Ok(loaded)
    }

    /// The checks that only `serve` needs: credentials for the API, and the files of certificates and tokens. A `Config` does not
    /// have the origins of its values, so each mistake has the origin `default`.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn validate_for_serve(&self) -> Result<(), ConfigErrors> {
        let mut mistakes = Vec::new();
        check::serve(self, &mut mistakes);
        ConfigErrors::unless_empty(mistakes)
    }
}

/// Loads a configuration in which invalid values have their defaults, and the mistakes.
///
/// # Errors
/// The file cannot be read: that alone, because every other mistake, such as missing credentials, may be a consequence.
fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<(Loaded, Vec<Mistake>), ConfigErrors> {
    let mut mistakes = Vec::new();
    let defaults = layers::parse_defaults(DEFAULTS).expect("a test parses the embedded defaults");
    let mut tree = defaults.clone();
    if let Some(path) = file {
        let layer = read_file(path).map_err(|mistake| ConfigErrors::from(vec![mistake]))?;
        tree.overlay(layer, "", &mut mistakes);
    }
    let environment: Vec<_> = environment.filter(|(_, value)| !value.is_empty()).collect();
    mistakes.extend(environment.iter().filter_map(|(name, _)| misspelt(name)));
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((environment_path(&name)?, name, value)))
        .collect();
    variables.sort();
    for (path, name, value) in variables {
        tree.set(&path, value, &Origin::Environment(name), &mut mistakes);
    }
    for (key, value) in flags {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        tree.set(&path, value.clone(), &Origin::flag_for(key), &mut mistakes);
    }

    let (mut config, not_texts) = read(&mut tree, &defaults, &mut mistakes);
    check::every_command(&mut config, &tree, &mut mistakes);
    let effective = effective::list(&tree, &not_texts);
    Ok((Loaded { config, effective }, mistakes))
}

/// The mistake of a variable such as `SMSBRIDGE_GRPC_LISTEN`, which would not be read, because it has one `_` after its section.
fn misspelt(name: &str) -> Option<Mistake> {
    if environment_path(name).is_some() {
        return None;
    }
    let rest = name.strip_prefix(layers::ENVIRONMENT_PREFIX)?;
    let mut section = "";
    DEFAULTS.lines().find_map(|line| {
        if let Some(named) = line.strip_prefix('[') {
            section = named.trim_end_matches(']');
        }
        // Keys without a default are comments.
        let (key, _) = line.trim_start_matches("# ").split_once(" = ")?;
        rest.eq_ignore_ascii_case(&format!("{}_{key}", section.replace('.', "_")))
            .then(|| Mistake {
                key: format!("{section}.{key}"),
                origin: Origin::Environment(name.to_owned()),
                problem: "the variable is not read: it has one `_` after the section".to_owned(),
                remedy: format!(
                    "write {}{}__{}",
                    layers::ENVIRONMENT_PREFIX,
                    section.replace('.', "__").to_uppercase(),
                    key.to_uppercase()
                ),
            })
    })
}

fn read_file(path: &Path) -> Result<Node, Mistake> {
    let text = fs::read_to_string(path).map_err(|error| Mistake {
        key: "--config".to_owned(),
        origin: Origin::Flag("--config".to_owned()),
        problem: format!("can't read {}: {error}", path.display()),
        remedy: "name a TOML file that this process may read".to_owned(),
    })?;
    layers::parse_file(path, &text)
}

/// Reads the tree; on each mistake, replaces the invalid value by its default and reads again. Also returns the keys that are
/// not texts.
fn read(
    tree: &mut Node,
    defaults: &Node,
    mistakes: &mut Vec<Mistake>,
) -> (Config, BTreeSet<String>) {
    loop {
        let keys_read = KeysRead::default();
        match Config::deserialize(Reader::root(tree, &keys_read)) {
            Ok(config) => {
                record_unknown(&keys_read, tree, mistakes);
                for path in keys_read.unknown.into_inner() {
                    tree.reset(&path, defaults);
                }
                return (config, keys_read.not_texts.into_inner());
            }
            Err(error) => {
                mistakes.push(mistake_of(&error, tree));
                let before = origin_at(tree, &error.path);
                tree.reset(&error.path, defaults);
                if before == Origin::Default {
                    // Unreachable unless a default is invalid, which a test rules out. It guarantees that the loop ends.
                    *tree = defaults.clone();
                }
            }
        }
    }
}

fn mistake_of(error: &ValueError, tree: &Node) -> Mistake {
    Mistake {
        key: error.path.join("."),
        origin: origin_at(tree, &error.path),
        problem: error.problem.clone(),
        remedy: error.wants.clone(),
    }
}

/// The origin of the value at `path`; for a table, that of its first value.
fn origin_at(tree: &Node, path: &[String]) -> Origin {
    let mut node = tree.nearest(path);
    while node.origin == Origin::Default
        && let Value::Table(table) = &node.value
        && let Some(first) = table.values().next()
    {
        node = first;
    }
    node.origin.clone()
}

fn record_unknown(keys_read: &KeysRead, tree: &Node, mistakes: &mut Vec<Mistake>) {
    let known = keys_read.known.borrow();
    for path in keys_read.unknown.borrow().iter() {
        let key = path.join(".");
        let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
        let siblings: Vec<&str> = known
            .iter()
            .filter(|known| known.rsplit_once('.').map_or("", |(section, _)| section) == section)
            .map(String::as_str)
            .collect();
        let nearest = |candidates: &mut dyn Iterator<Item = &str>, of: &str, threshold: f64| {
            candidates
                .map(|candidate| {
                    (
                        strsim::normalized_damerau_levenshtein(candidate, of),
                        candidate,
                    )
                })
                .filter(|(similarity, _)| *similarity >= threshold)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, candidate)| candidate.to_owned())
        };
        let suggestion = nearest(&mut siblings.iter().copied(), &key, 0.75)
            .or_else(|| {
                let elsewhere = known.iter().find(|known| {
                    known
                        .rsplit_once('.')
                        .is_some_and(|(_, known)| known == name)
                });
                elsewhere.cloned()
            })
            .or_else(|| nearest(&mut known.iter().map(String::as_str), &key, 0.7));
        mistakes.push(Mistake {
            origin: origin_at(tree, path),
            problem: "is not a known key".to_owned(),
            remedy: match suggestion {
                Some(suggestion) => format!("did you mean `{suggestion}`?"),
                None => format!("known keys: {}", siblings.join(", ")),
            },
            key,
        });
    }
}
