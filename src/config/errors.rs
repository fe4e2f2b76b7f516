//! Everything that is wrong with a configuration, in one message.

use std::{fmt, path::PathBuf};

use super::LogFormat;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// No layer sets it: the default counts.
    Default,
    /// The file of `--config`.
    File {
        path: PathBuf,
        /// Where in it, counted from 1; none for the file as a whole.
        line: Option<usize>,
    },
    /// A variable of the environment, by its name.
    Variable(String),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => {
                write!(f, "file {}", path.display())?;
                line.map_or(Ok(()), |line| write!(f, ", line {line}"))
            }
            Self::Variable(name) => write!(f, "variable {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key as in a file, `assets[1].name`; empty for a mistake of the file as a whole.
    pub key: String,
    /// The mistake. Never a secret.
    pub reason: String,
    /// The layer that set it; of a combination, the first of its keys that was set.
    pub origin: ValueOrigin,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{} ({})", self.reason, self.origin)
    }
}

/// All mistakes of a configuration; at least one. Shown one on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    mistakes: Vec<Mistake>,
    /// `telemetry.format`, as far as it could be read.
    format: LogFormat,
}

impl Errors {
    /// The mistakes, if there are any.
    pub(super) fn unless_empty(mistakes: Vec<Mistake>, format: LogFormat) -> Result<(), Self> {
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(Self { mistakes, format })
        }
    }

    /// A fault of the defaults that are compiled in.
    pub(super) fn of_defaults(error: impl fmt::Display) -> Self {
        let mistake = Mistake {
            key: String::new(),
            reason: error.to_string(),
            origin: ValueOrigin::Default,
        };
        Self {
            mistakes: vec![mistake],
            format: LogFormat::Text,
        }
    }

    /// One after the other: files before variables, then what does not fit together.
    pub fn all_mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// The form of the lines in which a service tells them: `telemetry.format`, text where that is among the mistakes.
    pub const fn log_format(&self) -> LogFormat {
        self.format
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.mistakes.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
