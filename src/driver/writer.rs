//! The journal's thread: takes groups, makes them durable, answers with the new head.
//!
//! Both channels are bounded: the step has one group under way at a time. After the first error nothing more is
//! accepted, for what is on the disk is unknown until the journal is opened again. While no group comes the journal is
//! settled, so that a loss of the last group would be called by its name. Between groups it is looked after
//! ([`Writer::keep`]): a group waits for one step of that at the most.
//!
//! Others may look at what is durable ([`Views`]): between two groups the thread hands out a consistent prefix, which is
//! read elsewhere while the journal goes on.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use std::sync::Arc;

use natgw_journal::{Directory, Journal, SledReader, View};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::keeper::Keeper;
pub use super::keeper::Measure;
use crate::controller::keeping::{Keep, Kept};
use crate::controller::step::Head;
use crate::machine::event::{Record, codec};

/// How long the journal is idle before it is settled: far above the time between groups under load, far below what a
/// person takes to pull a plug.
const IDLE: Duration = Duration::from_millis(100);

/// Places of the queue: one for the step's group, one for a view, one for looking after it, one for the end. None of them
/// is ever full when its own comes, so that a question about the journal cannot keep a group out.
const PLACES: usize = 4;

/// A group that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its records.
    pub records: Vec<Record>,
    /// The journal's head after it.
    pub head: Head,
}

/// What the thread did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A group is durable.
    Written(Written),
    /// What was asked for in [`Writer::keep`] is done, or failed by itself.
    Kept(Kept),
}

/// Why nothing more can be journaled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal refused a group, or the disk did.
    #[error(
        "NATGW-JOURNAL-WRITE: the journal cannot be written, so nothing more may be decided; check the volume and restart"
    )]
    Journal(#[source] natgw_journal::Error),
    /// A record does not fit.
    #[error("NATGW-JOURNAL-RECORD: a record cannot be encoded, so it was not carried out; report it")]
    Encode(#[source] codec::Error),
    /// The thread could not be started.
    #[error(
        "NATGW-JOURNAL-THREAD: the journal's thread cannot be started, so nothing can be decided; check the limits"
    )]
    Thread(#[source] std::io::Error),
    /// The thread ended, or has a group already.
    #[error("NATGW-JOURNAL-THREAD: the journal's thread takes no group, so nothing more may be decided; report it")]
    Lost,
}

/// A consistent prefix of the journal.
pub type JournalView = View<SledReader, Directory>;

/// What the thread is asked to do.
enum Work {
    Append(Vec<Record>),
    /// With the leave to ask, which is given back when this is taken.
    View(oneshot::Sender<JournalView>, OwnedSemaphorePermit),
    Keep(Keep),
    /// Nothing new: what is under way goes on.
    Step,
    Close,
}

/// Whoever may look at what is durable. It cannot write, and the writer's end does not wait for it.
#[derive(Clone, Debug)]
pub struct Views {
    work: SyncSender<Work>,
    one: Arc<Semaphore>,
}

impl Views {
    /// Everything that is durable when the thread comes by; `None` once the journal is closed.
    pub async fn take(&self) -> Option<JournalView> {
        let leave = Arc::clone(&self.one).acquire_owned().await.ok()?;
        let (reply, view) = oneshot::channel();
        self.work.try_send(Work::View(reply, leave)).ok()?;
        view.await.ok()
    }
}

/// The journal behind its thread.
#[derive(Debug)]
pub struct Writer {
    work: SyncSender<Work>,
    one_view: Arc<Semaphore>,
    answers: mpsc::Receiver<Result<Answer, Error>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Gives the journal a thread of its own.
    ///
    /// # Errors
    /// Fails when the system gives no thread.
    pub fn start(journal: Journal) -> Result<Self, Error> {
        Self::start_with(journal, Box::new(Journal::room))
    }

    /// The same with another way to measure the disk.
    ///
    /// # Errors
    /// As [`Writer::start`].
    pub fn start_with(journal: Journal, measure: Measure) -> Result<Self, Error> {
        let (work, queue) = sync_channel(PLACES);
        let (answer, answers) = mpsc::channel(1);
        let write = move || {
            if let Err(error) = (Thread { journal, keeper: Keeper::new(measure) }).run(&queue, &answer) {
                // Nobody listens any more where the loop has ended first.
                answer.blocking_send(Err(error)).ok();
            }
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(write).map_err(Error::Thread)?;
        Ok(Self { work, one_view: Arc::new(Semaphore::new(1)), answers, thread })
    }

    /// For whoever wants to look at what is durable.
    #[must_use]
    pub fn views(&self) -> Views {
        Views { work: self.work.clone(), one: Arc::clone(&self.one_view) }
    }

    /// Hands over a group. Never waits.
    ///
    /// # Errors
    /// Fails when the thread ended or has not taken the group before.
    pub fn append(&self, records: Vec<Record>) -> Result<(), Error> {
        self.work.try_send(Work::Append(records)).map_err(|_| Error::Lost)
    }

    /// Has the journal looked after. One thing at a time: the next when this one is answered.
    ///
    /// # Errors
    /// Fails when the thread ended or has something to do already.
    pub fn keep(&self, keep: Keep) -> Result<(), Error> {
        self.work.try_send(Work::Keep(keep)).map_err(|_| Error::Lost)
    }

    /// The next group that became durable, or what was done for the journal. Never ends while nothing is under way.
    ///
    /// # Errors
    /// Fails when the group, settling or pruning failed.
    pub async fn answered(&mut self) -> Result<Answer, Error> {
        self.answers.recv().await.unwrap_or(Err(Error::Lost))
    }

    /// Lets the thread finish the group that it has, settle and close.
    ///
    /// # Errors
    /// Fails when any of these does; the next opening takes the stop for unclean.
    pub async fn close(self) -> Result<(), Error> {
        let Self { work, mut answers, thread, .. } = self;
        // Where nobody takes it the thread has ended.
        work.try_send(Work::Close).ok();
        while let Some(answer) = answers.recv().await {
            answer?;
        }
        thread.join().map_err(|_| Error::Lost)
    }
}

/// What the thread has.
struct Thread {
    journal: Journal,
    keeper: Keeper,
}

impl Thread {
    fn run(mut self, queue: &Receiver<Work>, answer: &mpsc::Sender<Result<Answer, Error>>) -> Result<(), Error> {
        while let Some(work) = self.next(queue)? {
            let told = match work {
                Work::Append(records) => Some(Answer::Written(self.append(records)?)),
                Work::View(reply, leave) => {
                    drop(leave);
                    // Whoever asked may have gone.
                    reply.send(self.journal.view()).ok();
                    None
                }
                Work::Keep(keep) => {
                    self.keeper.begin(&self.journal, keep);
                    None
                }
                Work::Step => None,
                Work::Close => break,
            };
            let kept = self.keeper.step(&mut self.journal).map_err(Error::Journal)?.map(Answer::Kept);
            // Nobody listens any more where the loop has ended first.
            let heard = |told| answer.blocking_send(Ok(told)).is_ok();
            if !told.into_iter().chain(kept).all(heard) {
                break;
            }
        }
        self.keeper.end();
        self.journal.close().map_err(Error::Journal)
    }

    /// What comes next; settles where nothing comes. `None` at the end.
    fn next(&mut self, queue: &Receiver<Work>) -> Result<Option<Work>, Error> {
        if self.keeper.is_busy() {
            return Ok(match queue.try_recv() {
                Ok(work) => Some(work),
                Err(TryRecvError::Empty) => Some(Work::Step),
                Err(TryRecvError::Disconnected) => None,
            });
        }
        match queue.recv_timeout(IDLE) {
            Ok(work) => return Ok(Some(work)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => self.journal.settle().map_err(Error::Journal)?,
        }
        Ok(if self.keeper.waits() { Some(Work::Step) } else { queue.recv().ok() })
    }

    fn append(&mut self, records: Vec<Record>) -> Result<Written, Error> {
        let group: Vec<_> = records.iter().map(codec::encode).collect::<Result<_, _>>().map_err(Error::Encode)?;
        let natgw_journal::Head { seq, hash } = self.journal.append(&group).map_err(Error::Journal)?;
        Ok(Written { records, head: Head { seq, hash } })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use natgw_journal::{JournalId, Opened};

    use super::*;
    use crate::machine::event::Event;
    use crate::machine::event::control::{Rebased, TermStarted};

    fn record(seq: u64, event: Event) -> Record {
        Record { seq, term: 1, machine_ms: 0, wall_ms: 0, event }
    }

    fn started() -> Record {
        record(1, Event::TermStarted(TermStarted { term: 1, holder: "a".to_owned(), predecessor: None }))
    }

    async fn written(writer: &mut Writer) -> Written {
        match writer.answered().await.unwrap() {
            Answer::Written(written) => written,
            Answer::Kept(kept) => panic!("{kept:?}"),
        }
    }

    fn open(dir: &std::path::Path) -> Journal {
        match Journal::open(dir, JournalId([1; 16]), &[]).unwrap() {
            Opened::Fresh(journal) | Opened::Continued(journal) => journal,
            Opened::Damaged { verdict, .. } => panic!("{verdict}"),
        }
    }

    #[tokio::test]
    async fn a_group_is_answered_once_durable_and_a_close_keeps_what_was_handed_over() {
        let room = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(open(room.path())).unwrap();
        writer.append(vec![started()]).unwrap();
        let written = written(&mut writer).await;
        assert_eq!((written.head.seq, written.records), (1, vec![started()]));
        let second = record(2, Event::Rebased(Rebased { reason: String::new(), anew: true }));
        writer.append(vec![second]).unwrap();
        writer.close().await.unwrap();
        assert_eq!(open(room.path()).head().seq, 2);
    }

    #[tokio::test]
    async fn what_is_durable_may_be_looked_at_between_groups_and_after_the_end_no_more() {
        let room = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(open(room.path())).unwrap();
        let views = writer.views();
        // Questions that nobody waits for any more do not keep a group out.
        for _ in 0..10 {
            let asked = views.take();
            assert!(asked.now_or_never().is_none());
        }
        writer.append(vec![started()]).unwrap();
        assert_eq!(written(&mut writer).await.head.seq, 1);
        let view = views.take().await.unwrap();
        let mut export = Vec::new();
        view.export(&mut export).unwrap();
        assert!(String::from_utf8(export).unwrap().starts_with("{\"natgw_export\":1,"));
        assert_eq!(view.head().seq, 1);
        drop(view);
        writer.close().await.unwrap();
        assert!(views.take().await.is_none());
    }

    #[tokio::test]
    async fn after_a_refused_group_nothing_more_is_taken() {
        let room = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(open(room.path())).unwrap();
        let reason = "x".repeat(codec::RECORD_BYTES_MAX);
        writer.append(vec![record(1, Event::Rebased(Rebased { reason, anew: true }))]).unwrap();
        let error = writer.answered().await.unwrap_err();
        assert!(matches!(error, Error::Encode(_)), "{error}");
        assert!(matches!(writer.answered().await, Err(Error::Lost)), "the thread has ended");
        assert!(matches!(writer.append(vec![started()]), Err(Error::Lost)));
        assert_eq!(open(room.path()).head().seq, 0);
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_written_ends_the_thread() {
        let room = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(open(room.path())).unwrap();
        writer.append(vec![started()]).unwrap();
        assert_eq!(written(&mut writer).await.head.seq, 1);
        // The journal finds a value beside sled's log, where nothing would sync it, and may not be written any more.
        let beside = room.path().join("sled/blobs/7");
        std::fs::write(&beside, "spilled").unwrap();
        let second = record(2, Event::Rebased(Rebased { reason: String::new(), anew: true }));
        writer.append(vec![second.clone()]).unwrap();
        let error = writer.answered().await.unwrap_err();
        assert!(matches!(error, Error::Journal(_)), "{error}");
        std::fs::remove_file(&beside).unwrap();
        assert!(matches!(writer.answered().await, Err(Error::Lost)), "the thread has ended");
        assert!(
            matches!(writer.append(vec![second]), Err(Error::Lost)),
            "and what hindered it being gone helps nobody"
        );
    }
}
