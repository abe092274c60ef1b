//! What happens, as it happens, on the standard error output; mappings, when nothing is left to do, on the other.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write as _};
use std::rc::Rc;

use crate::controller::step::Controller;
use crate::driver::phase::Phase;
use crate::driver::{Course, Observer};
use crate::machine::event::{Record, words};
use crate::machine::state::DIGEST_VERSION;
use crate::run::is_told;

use super::kept::KeptCluster;
use super::show::Mapped;
use super::{Format, Options, show};

/// The cluster as far as telling needs it.
pub(super) trait Stage {
    /// Nothing will happen there by itself, as far as can be known.
    fn rests(&self) -> bool;

    /// The mappings as they are now; none where somebody else reads and prints them.
    fn mapped(&self) -> Option<Mapped>;

    /// Everything that had happened has been carried out.
    fn turned(&self, controller: &Controller);
}

impl Stage for KeptCluster {
    fn rests(&self) -> bool {
        self.read(|model| model.next_due().is_none())
    }

    fn mapped(&self) -> Option<Mapped> {
        Some(self.read(Mapped::of_model))
    }

    fn turned(&self, _: &Controller) {}
}

/// Tells. When it cannot, it asks for an end and keeps why.
pub(super) struct Teller<S> {
    stage: S,
    format: Format,
    verbose: bool,
    announce: bool,
    settle: bool,
    /// Whether nothing was left to do at the last turn, and what was printed last.
    quiet: bool,
    shown: String,
    failure: Failure,
}

/// Why something could not be told.
#[derive(Clone, Default)]
pub(super) struct Failure(Rc<RefCell<Option<io::Error>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.take()
    }

    fn note(&self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.0.borrow_mut().get_or_insert(error);
        }
    }
}

impl<S: Stage> Teller<S> {
    pub(super) fn new(options: &Options, stage: S) -> Self {
        Self {
            stage,
            format: options.output,
            verbose: options.verbose,
            announce: options.announce,
            settle: options.settle,
            quiet: false,
            shown: String::new(),
            failure: Failure::default(),
        }
    }

    /// Where a failure to tell is kept.
    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// Nothing is left to do, in the controller and in the cluster; and nothing happened that it has not seen.
    fn is_settled(&self, controller: &Controller) -> bool {
        controller.is_settled() && self.stage.rests()
    }

    fn settled(&mut self, controller: &Controller) -> io::Result<()> {
        self.phase(Phase::Settled);
        if let Some(mapped) = self.stage.mapped() {
            let text = show::render(&mapped, self.format).map_err(io::Error::other)?;
            if text != self.shown || self.settle {
                print(&text)?;
                self.shown = text;
            }
        }
        if self.settle {
            let state = controller.state();
            line(format_args!("digest v{DIGEST_VERSION} {} at event {}", Hex(&state.digest()), state.seq()))?;
        }
        Ok(())
    }
}

impl<S: Stage> Observer for Teller<S> {
    fn phase(&mut self, phase: Phase) {
        if self.announce {
            let told = line(format_args!("phase {phase}"));
            self.failure.note(told);
        }
    }

    fn recorded(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| self.verbose || is_told(&record.event)) {
            let time = jiff::Timestamp::from_millisecond(record.wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let time = time.strftime("%H:%M:%S%.3f");
            let told = line(format_args!("{time} #{:<5} {}", record.seq, words::sentence(record)));
            self.failure.note(told);
        }
    }

    fn turned(&mut self, controller: &Controller) -> Course {
        self.stage.turned(controller);
        let settled = self.is_settled(controller);
        if settled && !self.quiet {
            let told = self.settled(controller);
            self.failure.note(told);
        }
        self.quiet = settled;
        if (settled && self.settle) || self.failure.0.borrow().is_some() { Course::End } else { Course::Continue }
    }
}

/// Writes one line at once.
pub(super) fn line(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut text = text.to_string();
    text.push('\n');
    io::stderr().lock().write_all(text.as_bytes())
}

/// Prints mappings at once.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
