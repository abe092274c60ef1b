//! The journal's thread: takes groups, makes them durable, answers with the new head.
//!
//! Both channels are bounded: the step has one group under way at a time. After the first error nothing more is
//! accepted, for what is on the disk is unknown until the journal is opened again. While no group comes the journal is
//! settled, so that a loss of the last group would be called by its name.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use natgw_journal::Journal;
use tokio::sync::mpsc;

use crate::controller::step::Head;
use crate::machine::event::{Record, codec};

/// How long the journal is idle before it is settled: far above the time between groups under load, far below what a
/// person takes to pull a plug.
const IDLE: Duration = Duration::from_millis(100);

/// A group that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its records.
    pub records: Vec<Record>,
    /// The journal's head after it.
    pub head: Head,
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

/// The journal behind its thread.
#[derive(Debug)]
pub struct Writer {
    groups: SyncSender<Vec<Record>>,
    answers: mpsc::Receiver<Result<Written, Error>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Gives the journal a thread of its own.
    ///
    /// # Errors
    /// Fails when the system gives no thread.
    pub fn start(journal: Journal) -> Result<Self, Error> {
        let (groups, queue) = sync_channel(1);
        let (answer, answers) = mpsc::channel(1);
        let work = move || {
            if let Err(error) = write(journal, &queue, &answer) {
                // Nobody listens any more where the loop has ended first.
                answer.blocking_send(Err(error)).ok();
            }
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(work).map_err(Error::Thread)?;
        Ok(Self { groups, answers, thread })
    }

    /// Hands over a group. Never waits.
    ///
    /// # Errors
    /// Fails when the thread ended or has not taken the group before.
    pub fn append(&self, records: Vec<Record>) -> Result<(), Error> {
        self.groups.try_send(records).map_err(|_| Error::Lost)
    }

    /// The next group that became durable. Never ends while none is under way.
    ///
    /// # Errors
    /// Fails when the group, or settling, failed.
    pub async fn written(&mut self) -> Result<Written, Error> {
        self.answers.recv().await.unwrap_or(Err(Error::Lost))
    }

    /// Lets the thread finish the group that it has, settle and close.
    ///
    /// # Errors
    /// Fails when any of these does; the next opening takes the stop for unclean.
    pub async fn close(self) -> Result<(), Error> {
        let Self { groups, mut answers, thread } = self;
        drop(groups);
        while let Some(answer) = answers.recv().await {
            answer?;
        }
        thread.join().map_err(|_| Error::Lost)
    }
}

fn write(
    mut journal: Journal,
    queue: &Receiver<Vec<Record>>,
    answer: &mpsc::Sender<Result<Written, Error>>,
) -> Result<(), Error> {
    loop {
        let records = match queue.recv_timeout(IDLE) {
            Ok(records) => records,
            Err(RecvTimeoutError::Timeout) => {
                journal.settle().map_err(Error::Journal)?;
                match queue.recv() {
                    Ok(records) => records,
                    Err(_) => break,
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let group: Vec<_> = records.iter().map(codec::encode).collect::<Result<_, _>>().map_err(Error::Encode)?;
        let natgw_journal::Head { seq, hash } = journal.append(&group).map_err(Error::Journal)?;
        if answer.blocking_send(Ok(Written { records, head: Head { seq, hash } })).is_err() {
            break;
        }
    }
    journal.close().map_err(Error::Journal)
}

#[cfg(test)]
mod tests {
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
        let written = writer.written().await.unwrap();
        assert_eq!((written.head.seq, written.records), (1, vec![started()]));
        let second = record(2, Event::Rebased(Rebased { reason: String::new(), anew: true }));
        writer.append(vec![second]).unwrap();
        writer.close().await.unwrap();
        assert_eq!(open(room.path()).head().seq, 2);
    }

    #[tokio::test]
    async fn after_a_refused_group_nothing_more_is_taken() {
        let room = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(open(room.path())).unwrap();
        let reason = "x".repeat(codec::RECORD_BYTES_MAX);
        writer.append(vec![record(1, Event::Rebased(Rebased { reason, anew: true }))]).unwrap();
        let error = writer.written().await.unwrap_err();
        assert!(matches!(error, Error::Encode(_)), "{error}");
        assert!(matches!(writer.written().await, Err(Error::Lost)), "the thread has ended");
        assert!(matches!(writer.append(vec![started()]), Err(Error::Lost)));
        assert_eq!(open(room.path()).head().seq, 0);
    }
}
