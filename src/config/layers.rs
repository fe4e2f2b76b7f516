//! The layers: each key of each layer is judged alone, then the good ones are merged.
//!
//! The defaults are the schema: which keys there are and of what kind each is. A value is tried by putting it, alone,
//! into the defaults; what serde says then is about that key and no other.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use config::{Config, File, FileFormat};
use toml::{Table, Value};

use super::{
    DEFAULT, Errors, Mistake, PREFIX, Settings, ValueOrigin,
    accepted::one_line,
    judge::{Judge, Layer, SettingOrigins},
    places::Places,
    suggest::{self, StrayVariable},
};

/// An element of each list of tables that the defaults do not have; never a value in force.
const SAMPLES: &str = r#"[[auth.tokens]]
name = "sample"
sha256 = ""
scopes = ["read"]
"#;

/// The layers above the defaults.
#[derive(Debug)]
pub(super) struct Layers {
    schema: Table,
    file: Layer,
    environment: Layer,
    told: SettingOrigins,
}

impl Layers {
    /// Starts with the defaults alone.
    pub(super) fn new() -> Result<Self, Errors> {
        let mut schema: Table = DEFAULT.parse().map_err(Errors::of_defaults)?;
        let samples: Table = SAMPLES.parse().map_err(Errors::of_defaults)?;
        for (section, keys) in samples {
            if let (Some(Value::Table(known)), Value::Table(keys)) =
                (schema.get_mut(&section), keys)
            {
                known.extend(keys);
            }
        }
        Ok(Self {
            schema,
            file: Layer::default(),
            environment: Layer::default(),
            told: SettingOrigins::default(),
        })
    }

    /// The file cannot be used at all.
    pub(super) fn refuse_file(&mut self, path: &Path, reason: String) {
        self.told.mistakes.push(Mistake {
            key: String::new(),
            reason,
            origin: ValueOrigin::File {
                path: path.to_owned(),
                line: None,
            },
        });
    }

    pub(super) fn add_file(&mut self, path: &Path, text: &str) {
        match text.parse::<Table>() {
            Ok(table) => {
                self.told.places = Places::from_text(text);
                let mut judge = self.judge_of(ValueOrigin::File {
                    path: PathBuf::from(path),
                    line: None,
                });
                judge.judge_table(&judge.schema.clone(), table, "");
                let layer = judge.layer;
                self.file = layer;
            }
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                // Without the text of the line: it may be the one with the password.
                self.refuse_file(path, format!("line {line}: {}", one_line(error.message())));
            }
        }
    }

    /// The variables with our prefix, and those that can only be meant to have it.
    pub(super) fn add_environment(&mut self, env: impl Iterator<Item = (OsString, OsString)>) {
        let (mut ours, mut others): (Vec<_>, Vec<_>) =
            env.partition(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        ours.sort();
        others.sort();
        for (name, value) in others {
            if let Some(name) = name.to_str().filter(|name| suggest::is_like_ours(name)) {
                self.add_stray(name, &value.to_string_lossy());
            }
        }
        let mut all = Layer::default();
        for (name, value) in ours {
            let shown = name.to_string_lossy().into_owned();
            let mut judge = self.judge_of(ValueOrigin::Variable(shown.clone()));
            judge.judge_variable(&shown, value.to_str());
            all.0.extend(judge.layer.0);
        }
        self.environment = all;
    }

    fn add_stray(&mut self, name: &str, value: &str) {
        if let StrayVariable::Meant { key } = suggest::judge_stray(&self.schema, name, value) {
            let variable = suggest::variable_name(&key);
            self.told.mistakes.push(Mistake {
                key,
                reason: format!("this variable sets nothing; did you mean {variable}?"),
                origin: ValueOrigin::Variable(name.to_owned()),
            });
        }
    }

    /// The settings that all layers come to. A key whose value is bad keeps its default (in an element of a
    /// list: has some value that is good), and is among the mistakes.
    pub(super) fn merge_layers(self) -> Result<(Settings, SettingOrigins), Errors> {
        let listed = |key| self.told.origins.contains_key(key);
        let only_assets = listed("assets") && !listed("symbols");
        let mut settings: Settings = Config::builder()
            .add_source(File::from_str(DEFAULT, FileFormat::Toml))
            .add_source(self.file)
            .add_source(self.environment)
            .build()
            .and_then(Config::try_deserialize)
            .map_err(Errors::of_defaults)?;
        if only_assets {
            let known = |name: &String| settings.assets.iter().any(|asset| asset.name == *name);
            settings
                .symbols
                .retain(|symbol| known(&symbol.base) && known(&symbol.quote));
        }
        Ok((settings, self.told))
    }

    fn judge_of(&mut self, origin: ValueOrigin) -> Judge<'_> {
        Judge {
            schema: &self.schema,
            told: &mut self.told,
            origin,
            layer: Layer::default(),
        }
    }
}

/// Counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before
        .filter(|byte| *byte == b'\n')
        .count()
        .saturating_add(1)
}
