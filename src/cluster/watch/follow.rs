//! One kind, for ever: a paged list, then a watch from its version; again from the last version told when the watch ends,
//! and from a new list where that version is too old.
//!
//! What went wrong is logged and tried again after a pause that grows. Nothing here ends.

use std::time::Duration;

use futures_util::stream::{BoxStream, LocalBoxStream, StreamExt as _, unfold};
use kube::core::WatchEvent;
use tokio::time::{sleep, timeout};

use crate::cluster::api::{Api, Failure, is_expired};
use crate::cluster::list::Resource;
use crate::cluster::wire::{Page, Watched};

/// How long the API server keeps a watch open: client-go's least.
const WATCH_SECONDS: u64 = 290;

/// A watch that shows nothing for so long is opened again: bookmarks come about every minute, so its connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Pauses before something is tried again: from the least, doubled up to the most. An API server that was restarted is
/// found again within seconds, one that is overloaded is left alone.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What was told, in order.
pub(super) enum Told<T> {
    /// A page of a list; the first one begins a list and ends every list before it.
    Page { first: bool, items: Vec<T> },
    /// The list is complete and of this version.
    Listed(String),
    /// An object as it is now.
    Changed(T),
    /// An object as it was when it went.
    Gone(T),
    /// Everything up to this version has been told.
    Through(String),
}

/// Follows one kind.
pub(super) fn follow<T: Watched>(api: Api, resource: Resource) -> LocalBoxStream<'static, Told<T>> {
    let follower = Follower { api, resource, position: Position::List, failures: 0 };
    unfold(follower, |mut follower| async move {
        let told = follower.next().await;
        Some((told, follower))
    })
    .boxed_local()
}

struct Follower<T> {
    api: Api,
    resource: Resource,
    position: Position<T>,
    /// Failures since the last success.
    failures: u32,
}

enum Position<T> {
    /// Before the first page.
    List,
    /// Before another page.
    Page { token: String },
    /// After the last page.
    Listed { version: String },
    /// Before a watch.
    Watch { version: String },
    /// In a watch. `told` is whether it has told anything yet.
    Stream { events: Events<T>, version: String, told: bool },
}

type Events<T> = BoxStream<'static, Result<WatchEvent<T>, kube::Error>>;

impl<T: Watched> Follower<T> {
    async fn next(&mut self) -> Told<T> {
        loop {
            match std::mem::replace(&mut self.position, Position::List) {
                Position::List => {
                    if let Some(told) = self.page(String::new()).await {
                        return told;
                    }
                }
                Position::Page { token } => {
                    if let Some(told) = self.page(token).await {
                        return told;
                    }
                }
                Position::Listed { version } => {
                    self.position = Position::Watch { version: version.clone() };
                    return Told::Listed(version);
                }
                Position::Watch { version } => self.open(version).await,
                Position::Stream { events, version, told } => {
                    if let Some(told) = self.event(events, version, told).await {
                        return told;
                    }
                }
            }
        }
    }

    async fn page(&mut self, token: String) -> Option<Told<T>> {
        match self.api.page::<Page<T>>(&self.resource.page(&token)).await {
            Ok(page) => {
                self.failures = 0;
                let metadata = page.metadata.clone();
                self.position = if metadata.r#continue.is_empty() {
                    Position::Listed { version: metadata.resource_version }
                } else {
                    Position::Page { token: metadata.r#continue }
                };
                Some(Told::Page { first: token.is_empty(), items: page.into_items() })
            }
            Err(failure) => {
                if !failure.is_expired() {
                    self.position = if token.is_empty() { Position::List } else { Position::Page { token } };
                }
                self.pause("list", failure).await;
                None
            }
        }
    }

    async fn open(&mut self, version: String) {
        match self.api.watch(&self.resource.watch(&version, WATCH_SECONDS)).await {
            Ok(events) => self.position = Position::Stream { events, version, told: false },
            Err(failure) => {
                if !failure.is_expired() {
                    self.position = Position::Watch { version };
                }
                self.pause("watch", failure).await;
            }
        }
    }

    async fn event(&mut self, mut events: Events<T>, mut version: String, told: bool) -> Option<Told<T>> {
        let event = match timeout(SILENCE_MAX, events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => {
                // What cannot be read would come again from the same version.
                let unreadable = matches!(error, kube::Error::SerdeError(_));
                self.position = if unreadable { Position::List } else { Position::Watch { version } };
                self.pause_after("watch", &error.to_string()).await;
                return None;
            }
            Ok(None) | Err(_) => {
                self.position = Position::Watch { version };
                if !told {
                    self.pause_after("watch", "it ended without having told anything").await;
                }
                return None;
            }
        };
        let event = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                object.meta().version.clone_into(&mut version);
                Told::Changed(object)
            }
            WatchEvent::Deleted(object) => {
                object.meta().version.clone_into(&mut version);
                Told::Gone(object)
            }
            WatchEvent::Bookmark(bookmark) => {
                version = bookmark.metadata.resource_version;
                Told::Through(version.clone())
            }
            WatchEvent::Error(status) => {
                if !is_expired(&status) {
                    self.position = Position::Watch { version };
                }
                self.pause_after("watch", &status.to_string()).await;
                return None;
            }
        };
        self.failures = 0;
        self.position = Position::Stream { events, version, told: true };
        Some(event)
    }

    async fn pause(&mut self, what: &'static str, failure: Failure) {
        self.pause_after(what, &failure.of(what).to_string()).await;
    }

    async fn pause_after(&mut self, what: &'static str, why: &str) {
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        tracing::debug!("{what} of {}: {why}; again in {pause:?}", self.resource);
        sleep(pause).await;
    }
}
