//! What all temporary keys have in common: fetched, held, renewed ahead of their end.
//!
//! Whoever asks while a valid key is held gets it at once; a renewal runs beside, one at a time. Only who finds no valid key
//! waits for the flight, which all who wait share. Failures back off, so that a broken source is not asked by every call.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::{AccessKey, CredentialError, Credentials, Current};
use crate::cloud::rpc::WallClock;

/// How long before its end a key is renewed: as the vendor's Python SDK does, so that many attempts fit in.
const AHEAD: Duration = Duration::from_secs(15 * 60);

/// The part of a key's life that is left when it is renewed, where [`AHEAD`] would be more: keys of the shortest life,
/// 15 minutes, are not renewed with every call.
const PART_LEFT: u32 = 4;

/// Pause after a failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest such pause.
const PAUSE_LAST: Duration = Duration::from_secs(60);

/// A key that ends.
pub struct Temporary {
    /// The key.
    pub key: AccessKey,
    /// When it ends.
    pub expires: SystemTime,
}

/// A key on its way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Temporary, CredentialError>> + Send + 'a>>;

/// Where a temporary key is fetched.
pub trait Source: Send + Sync + 'static {
    /// What it is, in messages.
    const NAME: &'static str;

    /// After how long it is asked again although the key is far from its end.
    const REREAD: Option<Duration>;

    /// Fetches a key. What is held in memory of an earlier fetch is no answer.
    fn fetch(&self) -> Fetching<'_>;
}

/// Serves a source's keys.
pub struct Refreshing<S>(Arc<Inner<S>>);

struct Inner<S> {
    source: S,
    clock: WallClock,
    state: Mutex<State>,
    /// Counts flights that ended, for those who wait.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    flying: bool,
    failures: u32,
    /// When the last fetch failed, and for how long none is begun after it.
    pause: Option<(SystemTime, Duration)>,
    error: Option<Arc<CredentialError>>,
}

struct Held {
    key: Arc<AccessKey>,
    /// When it was fetched. A clock that says less was set back, and knows no more when the key ends.
    since: SystemTime,
    expires: SystemTime,
    renew: SystemTime,
}

/// What a caller may do now.
enum Turn {
    Serve(Arc<AccessKey>),
    Wait(watch::Receiver<u64>),
    Fail(Arc<CredentialError>),
}

impl<S: Source> Refreshing<S> {
    /// Fetches nothing yet.
    #[must_use]
    pub fn new(source: S, clock: WallClock) -> Self {
        let (ended, _) = watch::channel(0);
        Self(Arc::new(Inner { source, clock, state: Mutex::default(), ended }))
    }
}

impl<S: Source> Credentials for Refreshing<S> {
    fn current(&self) -> Current<'_> {
        Box::pin(async move {
            loop {
                match self.0.turn() {
                    Turn::Serve(key) => return Ok(key),
                    Turn::Fail(error) => return Err(CredentialError::Ended(error)),
                    Turn::Wait(mut ended) => {
                        // The sender lives as long as `self`.
                        ended.changed().await.ok();
                    }
                }
            }
        })
    }

    fn refused(&self, key: &AccessKey) {
        let now = (self.0.clock)();
        let mut state = self.0.lock();
        if let Some(held) = &mut state.held
            && held.key.id() == key.id()
        {
            held.renew = now;
        }
    }
}

impl<S: Source> Inner<S> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a flight where one is due, and says what the caller may do.
    fn turn(self: &Arc<Self>) -> Turn {
        let now = (self.clock)();
        let mut state = self.lock();
        let valid = state.held.as_ref().filter(|held| held.expires > now);
        let due = valid.is_none_or(|held| held.renew <= now || now < held.since);
        let valid = valid.map(|held| Arc::clone(&held.key));
        // A clock that was set back behind the failure ends the pause: it would last as long as the clock was wrong.
        let paused = state.pause.is_some_and(|(failed, pause)| now.duration_since(failed).is_ok_and(|it| it < pause));
        let ended = self.ended.subscribe();
        let begins = due && !paused && !state.flying;
        state.flying |= begins;
        let turn = match (valid, &state.error) {
            (Some(key), _) => Turn::Serve(key),
            (None, _) if state.flying => Turn::Wait(ended),
            (None, Some(error)) => Turn::Fail(Arc::clone(error)),
            // Nothing held, nothing wrong and nothing under way: a pause without an error does not exist.
            (None, None) => Turn::Fail(Arc::new(CredentialError::Stale(S::NAME))),
        };
        drop(state);
        if begins {
            tokio::spawn(Flight { inner: Arc::clone(self), landed: false }.fly());
        }
        turn
    }

    fn land(&self, fetched: Result<Temporary, CredentialError>) {
        let now = (self.clock)();
        let fetched = fetched.and_then(|temporary| match temporary.expires.duration_since(now) {
            Ok(life) if !life.is_zero() => Ok((temporary, life)),
            Ok(_) | Err(_) => Err(CredentialError::Stale(S::NAME)),
        });
        let mut state = self.lock();
        state.flying = false;
        match fetched {
            Ok((Temporary { key, expires }, life)) => {
                let left = AHEAD.min(life.checked_div(PART_LEFT).unwrap_or_default());
                let until = life.saturating_sub(left);
                let renew = now.checked_add(S::REREAD.map_or(until, |reread| until.min(reread))).unwrap_or(expires);
                tracing::debug!(source = S::NAME, access_key = key.id(), life_s = life.as_secs(), "access key fetched");
                *state =
                    State { held: Some(Held { key: Arc::new(key), since: now, expires, renew }), ..State::default() };
            }
            Err(error) => {
                let pause = PAUSE_FIRST.saturating_mul(1_u32.checked_shl(state.failures).unwrap_or(u32::MAX));
                state.failures = state.failures.saturating_add(1);
                state.pause = Some((now, pause.min(PAUSE_LAST)));
                tracing::warn!(source = S::NAME, "{}", said(&error));
                state.error = Some(Arc::new(error));
            }
        }
    }
}

/// One fetch. Dropped before its end, it lets another begin.
struct Flight<S: Source> {
    inner: Arc<Inner<S>>,
    landed: bool,
}

impl<S: Source> Flight<S> {
    async fn fly(mut self) {
        let fetched = self.inner.source.fetch().await;
        self.inner.land(fetched);
        self.landed = true;
    }
}

impl<S: Source> Drop for Flight<S> {
    fn drop(&mut self) {
        if !self.landed {
            self.inner.lock().flying = false;
        }
        self.inner.ended.send_modify(|ended| *ended = ended.wrapping_add(1));
    }
}

/// An error with its causes.
fn said(error: &CredentialError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests;
