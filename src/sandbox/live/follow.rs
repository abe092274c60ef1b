//! The manifests: read, read again, and applied when what they say has changed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::sandbox::cluster::{Action, Manifest};

use super::kept::KeptCluster;
use super::tell;

/// The documented sample workload (ack-pod-dnat.txt).
const SAMPLE: &str = include_str!("../../../examples/sample.yaml");

/// How often the files are read again. Their contents are compared: that also notices a file that was replaced.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no YAML.
    #[error("{} is no valid YAML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
}

/// The files, and what they said last.
pub(super) struct Manifests {
    paths: Vec<PathBuf>,
    texts: Vec<String>,
    /// What they said at the last look.
    last_look: Option<Vec<String>>,
    interval: Interval,
}

impl Manifests {
    /// The manifests of these files; of none the sample.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let mut interval = interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { paths, texts: Vec::new(), last_look: None, interval }
    }

    /// Reads all documents for the first time.
    pub(super) fn read(&mut self) -> Result<Vec<Manifest>, Error> {
        if self.paths.is_empty() {
            return documents(Path::new("examples/sample.yaml"), SAMPLE);
        }
        self.texts = self.texts_now()?;
        self.documents()
    }

    /// Ends when it is time to look again. There is nothing to look at where the sample is used.
    pub(super) async fn tick(&mut self) {
        if self.paths.is_empty() {
            return std::future::pending().await;
        }
        self.interval.tick().await;
    }

    /// Looks at the files, and applies them once they have changed and stay so: a file that is being written is not what
    /// its author means. What cannot be taken is said once, and what was applied before stays.
    pub(super) fn follow(&mut self, cluster: &KeptCluster) {
        let read = self.texts_now();
        let texts = read.as_ref().map_or_else(|error| vec![error.to_string()], Clone::clone);
        let stays = self.last_look.as_ref() == Some(&texts);
        if !stays || texts == self.texts {
            self.last_look = Some(texts);
            return;
        }
        self.texts = texts;
        let said = match read.and_then(|_| self.documents()) {
            Err(error) => vec![format!("{error}; the manifests stay as they were applied")],
            Ok(documents) => match cluster.apply(&documents) {
                Ok(actions) => actions.iter().map(|(key, action)| format!("{key} {}", word(*action))).collect(),
                Err(errors) => {
                    errors.iter().map(|error| format!("{error}; the manifests stay as they were applied")).collect()
                }
            },
        };
        for line in said {
            // Whether anybody can be told is noticed by the teller, with the next record.
            tell::line(format_args!("{line}")).ok();
        }
    }

    fn texts_now(&self) -> Result<Vec<String>, Error> {
        let text = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.clone(), source })
        };
        self.paths.iter().map(text).collect()
    }

    fn documents(&self) -> Result<Vec<Manifest>, Error> {
        let mut all = Vec::new();
        for (path, text) in self.paths.iter().zip(&self.texts) {
            all.extend(documents(path, text)?);
        }
        Ok(all)
    }
}

fn documents(path: &Path, text: &str) -> Result<Vec<Manifest>, Error> {
    let read = serde_saphyr::from_multiple::<serde_json::Value>(text);
    let read = read.map_err(|error| Error::Syntax { path: path.to_owned(), reason: error.to_string() })?;
    let source = |index: usize| format!("{}, document {}", path.display(), index.saturating_add(1));
    Ok(read.into_iter().enumerate().map(|(index, document)| Manifest { source: source(index), document }).collect())
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Created => "created",
        Action::Configured => "configured",
        Action::Deleted => "deleted",
    }
}
