//! What the peers share: the allocator, which is the service's, and a command line of `--name value`.

use std::{collections::HashMap, env, fmt::Debug, str::FromStr};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line; a name may come more than once.
#[derive(Debug)]
pub struct Arguments(HashMap<String, Vec<String>>);

impl Arguments {
    /// As this process was started with.
    pub fn read() -> Self {
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").expect("--name value");
            let value = words.next().expect("a value follows its name");
            all.entry(name.to_owned()).or_default().push(value);
        }
        Self(all)
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Its value, if it is there.
    pub fn get<T: FromStr<Err: Debug>>(&self, name: &str) -> Option<T> {
        let text = self.all(name).last()?;
        Some(
            text.parse()
                .unwrap_or_else(|error| panic!("--{name} {text}: {error:?}")),
        )
    }

    /// Its value, which must be there.
    pub fn need<T: FromStr<Err: Debug>>(&self, name: &str) -> T {
        self.get(name)
            .unwrap_or_else(|| panic!("--{name} is missing"))
    }
}
