//! ClientTokens and the answers that they bring back (aliyun-api.md §1.10).
//!
//! Only success is remembered: a refused request may be sent again with its token and is judged anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::request::Request;
use crate::machine::identity::EntryId;

/// Longest ClientToken (aliyun-api.md §1.1).
const TOKEN_MAX: usize = 64;

/// How many forgotten tokens are kept to tell a second execution: more than any run of a simulator spends.
const FORGOTTEN_MAX: usize = 1 << 16;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tokens {
    known: BTreeMap<String, Known>,
    /// In the order in which they were remembered.
    ages: VecDeque<(u64, String)>,
    /// Tokens of requests that were done and are no longer known: evidence, not behaviour, so it is not saved.
    #[serde(skip)]
    forgotten: BTreeSet<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    request: Request,
    since_ms: u64,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The request is somewhere inside and will be done later.
    Running { request_id: String },
    /// It was done.
    Done { entry: EntryId },
}

impl Tokens {
    /// The entry of the first answer where the token is known; `None` where the request is to be done.
    ///
    /// # Errors
    /// The token was used with other parameters, or the earlier request still runs (unless it is this very one).
    pub(super) fn look_up(&self, request: &Request, request_id: &str) -> Result<Option<EntryId>, Refusal> {
        let Some(token) = request.token() else { return Ok(None) };
        if token.is_empty() || token.len() > TOKEN_MAX || !token.is_ascii() {
            return Err(Refusal::token_malformed());
        }
        match self.known.get(token) {
            None => Ok(None),
            Some(known) if known.request != *request => Err(Refusal::token_mismatch()),
            Some(known) => match &known.state {
                State::Done { entry } => Ok(Some(entry.clone())),
                State::Running { request_id: running } if running == request_id => Ok(None),
                State::Running { .. } => Err(Refusal::token_processing()),
            },
        }
    }

    /// Notes that a request was taken in and will be done later.
    pub(super) fn run(&mut self, request: &Request, request_id: &str, now_ms: u64) {
        self.note(request, State::Running { request_id: request_id.to_owned() }, now_ms);
    }

    /// Notes the answer. Returns whether the request had been done before and its token was forgotten since.
    pub(super) fn done(&mut self, request: &Request, entry: EntryId, now_ms: u64) -> bool {
        self.note(request, State::Done { entry }, now_ms);
        request.token().is_some_and(|token| self.forgotten.remove(token))
    }

    /// Forgets the answer to one token; whether there was one. A request that still runs goes on running.
    pub(super) fn forget_answer(&mut self, token: &str) -> bool {
        let done = self.known.get(token).is_some_and(|known| matches!(known.state, State::Done { .. }));
        if done {
            self.known.remove(token);
            self.remember_forgotten(token.to_owned());
        }
        done
    }

    /// A request that ran was refused in the end.
    pub(super) fn failed(&mut self, request: &Request, request_id: &str) {
        let Some(token) = request.token() else { return };
        let running = State::Running { request_id: request_id.to_owned() };
        if self.known.get(token).is_some_and(|known| known.state == running) {
            self.known.remove(token);
        }
    }

    /// Forgets what is older than the lifetime. Returns how many answers that were.
    pub(super) fn forget(&mut self, now_ms: u64, lifetime_ms: u64) -> usize {
        let mut answers: usize = 0;
        while let Some((since_ms, _)) = self.ages.front() {
            if since_ms.saturating_add(lifetime_ms) > now_ms {
                break;
            }
            let Some((since_ms, token)) = self.ages.pop_front() else { break };
            if self.known.get(&token).is_some_and(|known| known.since_ms == since_ms)
                && let Some(Known { state: State::Done { .. }, .. }) = self.known.remove(&token)
            {
                answers = answers.saturating_add(1);
                self.remember_forgotten(token);
            }
        }
        answers
    }

    fn remember_forgotten(&mut self, token: String) {
        self.forgotten.insert(token);
        if self.forgotten.len() > FORGOTTEN_MAX {
            self.forgotten.pop_first();
        }
    }

    fn note(&mut self, request: &Request, state: State, now_ms: u64) {
        let Some(token) = request.token() else { return };
        let known = Known { request: request.clone(), since_ms: now_ms, state };
        self.known.insert(token.to_owned(), known);
        self.ages.push_back((now_ms, token.to_owned()));
    }
}
