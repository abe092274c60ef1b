//! The live loop: adapters → step → journal thread and executor, on one current-thread runtime.
//!
//! The driver carries and decides nothing. Inputs are handed in one at a time; effects and readings are futures of this
//! loop, polled side by side and never spawned; the journal has a thread of its own ([`writer`]). That nothing leaves
//! before the journal covers it is the step's promise; here it is kept by starting exactly what the step puts out.
//!
//! * What watches show is handed in, in order, before anything else that happened: a listing therefore never tells less
//!   than the watch has.
//! * [`Output::Stop`] ends [`Driver::run`] with an error at once: nothing more is written, started or released.
//! * A graceful end drops what is under way, lets the journal close, and gives the lease back last.
//! * The clocks are read in [`clock`], fresh identities drawn in [`entropy`], and nowhere else.
//!
//! Deliberately absent: time-outs of calls, which live in the adapters, and any choice of order, retry or pause.

pub mod clock;
pub mod entropy;
pub mod fold;
pub mod history;
mod keeper;
pub mod phase;
pub mod writer;

use std::collections::VecDeque;
use std::pin::pin;

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::controller::lease;
use crate::controller::step::{Configuration, Controller, EffectId, Identity, Input, ListId, Output, Seen, Stop};
use crate::executor;
use crate::machine::event::Record;
use crate::ports::cloud::Cloud;
use crate::ports::cluster::{Cluster, Lease};
use crate::ports::effect::{Ended, ListError, Listing};

use self::clock::Clock;
use self::history::History;
use self::phase::{Phase, effect_word, list_word};
use self::writer::{Answer, Views, Writer};

/// The watches, as one stream in order.
#[expect(async_fn_in_trait, reason = "everything here lives on one thread")]
pub trait Watch {
    /// Everything that was shown since the last call, in order, and nothing that may still be taken back.
    ///
    /// # Errors
    /// Fails when the watches can show nothing more, ever.
    fn take(&mut self) -> Result<VecDeque<Seen>, WatchError>;

    /// Ends when there may be more to take, or sooner. Dropped and called again at any time.
    async fn wait(&mut self);
}

/// Why watches ended for good.
pub type WatchError = Box<dyn std::error::Error + Send + Sync>;

/// Whoever wants to know how it goes. What it does cannot change what the controller does.
pub trait Observer {
    /// A phase begins or has ended; what follows from it comes after this call.
    fn phase(&mut self, phase: Phase);

    /// These records are durable.
    fn recorded(&mut self, records: &[Record]);

    /// Everything that had happened has been handed in and carried out. Says whether to go on.
    fn turned(&mut self, controller: &Controller) -> Course;
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Go on.
    Continue,
    /// End gracefully.
    End,
}

/// Why the controller ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The step says so: at once, without further effects.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// The journal cannot be written.
    #[error(transparent)]
    Writer(#[from] writer::Error),
    /// The watches ended.
    #[error("NATGW-WATCH: the watches ended, so nothing more would be noticed; restart the process")]
    Watch(#[source] WatchError),
}

/// What a controller starts with.
#[derive(Debug)]
pub struct Start {
    /// Who it is.
    pub identity: Identity,
    /// Its journal, opened and replayed.
    pub history: History,
    /// Its configuration.
    pub configuration: Configuration,
    /// Its clock.
    pub clock: Clock,
}

/// A controller and what it works on.
pub struct Driver<'a, K, C, W, O> {
    cluster: &'a K,
    cloud: &'a C,
    watch: W,
    observer: O,
    controller: Controller,
    holder: String,
    writer: Writer,
    clock: Clock,
    flights: FuturesUnordered<LocalBoxFuture<'a, Landed>>,
    led: bool,
}

/// What came back.
enum Landed {
    Effect(EffectId, &'static str, Ended),
    List(ListId, &'static str, Result<Listing, ListError>),
    Lease(lease::Answer),
}

impl<'a, K: Cluster + Lease, C: Cloud, W: Watch, O: Observer> Driver<'a, K, C, W, O> {
    /// A candidate. Nothing is asked or written yet but the configuration handed in.
    ///
    /// # Errors
    /// Fails when the journal's thread cannot be started.
    pub fn new(cluster: &'a K, cloud: &'a C, watch: W, observer: O, start: Start) -> Result<Self, Error> {
        let Start { identity, history, configuration, clock } = start;
        let History { journal, state, head, .. } = history;
        let holder = identity.holder.clone();
        let mut controller = Controller::new(identity, state, head);
        controller.handle(clock.now(), Input::Configured(Box::new(configuration)));
        let writer = Writer::start(journal)?;
        let flights = FuturesUnordered::new();
        Ok(Self { cluster, cloud, watch, observer, controller, holder, writer, clock, flights, led: false })
    }

    /// For whoever wants to look at what is durable while it runs.
    #[must_use]
    pub fn views(&self) -> Views {
        self.writer.views()
    }

    /// Runs until `asked` ends or the observer wants an end, and then ends gracefully.
    ///
    /// # Errors
    /// See [`Error`]. The process has to end then, and at once.
    pub async fn run(mut self, asked: impl Future<Output = ()>) -> Result<(), Error> {
        let mut asked = pin!(asked);
        loop {
            self.feed()?;
            self.carry_out()?;
            if self.observer.turned(&self.controller) == Course::End {
                break;
            }
            let wake = self.clock.at(self.controller.poll_timeout());
            tokio::select! {
                biased;
                () = &mut asked => break,
                answer = self.writer.answered() => match answer? {
                    Answer::Written(written) => {
                        self.observer.phase(Phase::Appended);
                        self.observer.recorded(&written.records);
                        self.take(Input::Appended(written.head))?;
                    }
                    Answer::Kept(kept) => self.take(Input::Kept(kept))?,
                },
                Some(landed) = self.flights.next() => self.land(landed)?,
                () = self.watch.wait() => {}
                () = tokio::time::sleep_until(wake) => self.take(Input::Woke)?,
            }
        }
        self.end().await
    }

    /// Drops what is under way: whether it was carried out is found out by the next leader, as after a crash.
    async fn end(self) -> Result<(), Error> {
        drop(self.flights);
        self.writer.close().await?;
        // Only a courtesy to the next leader, which otherwise waits for the lease to expire.
        if let Ok(lock) = self.cluster.read_lease().await
            && lock.holder == self.holder
        {
            self.cluster.write_lease(&self.controller.give_back(&lock)).await.ok();
        }
        Ok(())
    }

    fn land(&mut self, landed: Landed) -> Result<(), Error> {
        let input = match landed {
            Landed::Effect(id, word, ended) => {
                self.observer.phase(Phase::EffectEnded(word));
                Input::EffectEnded(id, ended)
            }
            Landed::List(id, word, listing) => {
                if let Err(error) = &listing {
                    tracing::warn!("{error}");
                }
                self.observer.phase(Phase::ListEnded(word));
                Input::ListEnded(id, listing)
            }
            Landed::Lease(answer) => Input::LeaseAnswered(answer),
        };
        self.take(input)
    }

    /// Hands something in, after everything that the watches have shown.
    fn take(&mut self, input: Input) -> Result<(), Error> {
        self.feed()?;
        self.controller.handle(self.clock.now(), input);
        if self.controller.leads() && !self.led {
            self.led = true;
            self.observer.phase(Phase::Leading);
        }
        Ok(())
    }

    fn feed(&mut self) -> Result<(), Error> {
        for seen in self.watch.take().map_err(Error::Watch)? {
            self.controller.handle(self.clock.now(), Input::Seen(seen));
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), Error> {
        while let Some(output) = self.controller.poll_output() {
            match output {
                Output::Append(records) => {
                    self.observer.phase(Phase::Append);
                    self.writer.append(records)?;
                }
                Output::Start(id, effect) => {
                    let word = effect_word(&effect);
                    self.observer.phase(Phase::EffectStart(word));
                    let (cluster, cloud) = (self.cluster, self.cloud);
                    let flight =
                        async move { Landed::Effect(id, word, executor::execute(cluster, cloud, &effect).await) };
                    self.flights.push(flight.boxed_local());
                }
                Output::List(id, request) => {
                    let word = list_word(&request);
                    self.observer.phase(Phase::List(word));
                    let (cluster, cloud) = (self.cluster, self.cloud);
                    let flight = async move { Landed::List(id, word, executor::list(cluster, cloud, &request).await) };
                    self.flights.push(flight.boxed_local());
                }
                Output::CallLease(call) => {
                    let cluster = self.cluster;
                    self.flights.push(async move { Landed::Lease(call_lease(cluster, call).await) }.boxed_local());
                }
                Output::Keep(keep) => self.writer.keep(keep)?,
                Output::Stop(stop) => return Err(stop.into()),
            }
        }
        Ok(())
    }
}

async fn call_lease(cluster: &impl Lease, call: lease::Call) -> lease::Answer {
    let answer = match call {
        lease::Call::Read => cluster.read_lease().await,
        lease::Call::Write(record) => cluster.write_lease(&record).await,
    };
    answer.map_err(|error| {
        tracing::debug!("{error}");
        error.class
    })
}
