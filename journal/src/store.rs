//! The seam above sled: numbered frames in, numbered frames out. Implemented on sled ([`crate::SledStore`]), on plain
//! files ([`crate::plain::Segments`]), and by a simulator in memory. What frames mean is not the store's business.

use rustix::io::Errno;

/// A store refused, failed or panicked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the store could not {what}: {reason}")]
pub struct StoreFault {
    /// The operation.
    pub what: &'static str,
    /// Why it failed.
    pub reason: String,
    /// Who refused.
    pub by: RefusedBy,
}

/// Who refused an operation on stored frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// What is stored, or the store itself: something may be lost.
    Store,
    /// The machine, which has no room, no permission or no open files left: nothing is said of what is stored.
    Machine,
}

impl RefusedBy {
    /// Whose refusal an answer of the system is. An error of the medium is about what is stored.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            Some(
                Errno::NOSPC
                | Errno::DQUOT
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::ACCESS
                | Errno::PERM
                | Errno::ROFS,
            ) => Self::Machine,
            Some(_) | None => Self::Store,
        }
    }
}

impl StoreFault {
    /// A failed operation and its reason.
    pub fn new(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self { what, reason: reason.to_string(), by: RefusedBy::Store }
    }

    /// An operation that the system did not carry out.
    #[must_use]
    pub fn of_system(what: &'static str, error: &std::io::Error) -> Self {
        Self { by: RefusedBy::of(error), ..Self::new(what, error) }
    }
}

/// What a frame is stored under, and its bytes.
pub type NumberedFrame = (u64, Vec<u8>);

/// Iterator over frames; ends after the first fault.
pub type Frames<'a> = Box<dyn Iterator<Item = Result<NumberedFrame, StoreFault>> + 'a>;

/// Ordered, atomic and, once synced, durable storage of frames under ascending numbers.
///
/// Calls come from one thread, in this order: frames of one group by [`Store::put`], [`Store::flush`], [`Store::sync`],
/// then the next group. **What a power cut may leave**: everything synced, and of the groups put since then any number,
/// the earlier before the later, each as a whole or (only of the last) in any part that is recognised as unfinished.
/// Bytes that rot are not the store's to detect: the reader checks every frame.
///
/// After an error of `put`, `flush` or `sync` the journal is poisoned and makes no further call that changes anything.
pub trait Store {
    /// Stores the frames of one group, whose numbers follow the last one's. Not durable.
    ///
    /// # Errors
    /// Whatever prevents it; it is unknown then whether the group is there.
    fn put(&mut self, frames: Vec<NumberedFrame>) -> Result<(), StoreFault>;

    /// Hands all that was put to the operating system, so that [`Store::sync`] finds it. Not durable.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn flush(&mut self) -> Result<(), StoreFault>;

    /// Makes durable what was flushed and, at the first call, what was there at the opening. It may run at the same time
    /// as the sync of another file.
    ///
    /// # Errors
    /// Whatever prevents it; it must not be tried again.
    fn sync(&self) -> Result<(), StoreFault>;

    /// The frame stored under this number.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault>;

    /// The lowest frame number.
    ///
    /// # Errors
    /// If it cannot be read.
    fn first(&self) -> Result<Option<u64>, StoreFault>;

    /// The lowest frame number from `number` on.
    ///
    /// # Errors
    /// If it cannot be read.
    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        Ok(self.scan(number).next().transpose()?.map(|(found, _)| found))
    }

    /// The highest frame number.
    ///
    /// # Errors
    /// If it cannot be read.
    fn last(&self) -> Result<Option<u64>, StoreFault>;

    /// Whether nothing was ever stored, not even something that cannot be read.
    ///
    /// # Errors
    /// If it cannot be said.
    fn is_empty(&self) -> Result<bool, StoreFault> {
        Ok(self.last()?.is_none())
    }

    /// The frames from number `from` on, in order, with whatever gaps there are.
    fn scan(&self, from: u64) -> Frames<'_>;

    /// Removes the frames from `first` on, and what is left of an unfinished group; tells whether there were any. Not
    /// durable before [`Store::sync`].
    ///
    /// # Errors
    /// As [`Store::put`].
    fn remove_from(&mut self, first: u64) -> Result<bool, StoreFault>;

    /// Removes frames below `number`, the lowest first and only some: about `at_most`, so that one call takes no longer
    /// than an append. Tells whether it has to be called again. A store may keep what it cannot remove in part, and
    /// should keep frame 0, which names the journal. Not durable before [`Store::sync`]; what remains after a power cut
    /// has no gap, frame 0 excepted.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn remove_below(&mut self, number: u64, at_most: usize) -> Result<bool, StoreFault>;

    /// Lets go of all files, durably, and gives a fingerprint of them, by which the next opening tells whether they
    /// changed; 0 if it does not need to know.
    ///
    /// # Errors
    /// As [`Store::sync`].
    fn close(self) -> Result<u32, StoreFault>
    where
        Self: Sized;
}

/// What reading frames takes: a [`Store`], or a handle that reads one while another thread writes it.
pub trait ReadFrames {
    /// As [`Store::frame`].
    ///
    /// # Errors
    /// As there.
    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault>;

    /// As [`Store::first_from`].
    ///
    /// # Errors
    /// As there.
    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault>;

    /// As [`Store::last`].
    ///
    /// # Errors
    /// As there.
    fn last(&self) -> Result<Option<u64>, StoreFault>;

    /// As [`Store::scan`].
    fn scan(&self, from: u64) -> Frames<'_>;
}

impl<S: Store + ?Sized> ReadFrames for S {
    fn frame(&self, number: u64) -> Result<Option<Vec<u8>>, StoreFault> {
        Store::frame(self, number)
    }

    fn first_from(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        Store::first_from(self, number)
    }

    fn last(&self) -> Result<Option<u64>, StoreFault> {
        Store::last(self)
    }

    fn scan(&self, from: u64) -> Frames<'_> {
        Store::scan(self, from)
    }
}

/// A store that can be read by another thread, or in the middle of other work, while it is written.
pub trait Shared: Store {
    /// The handle.
    type Reader: ReadFrames;

    /// A handle that reads what was put before. Frames put or removed later it may see or not.
    fn reader(&self) -> Self::Reader;

    /// About how many bytes the store takes on the disk.
    ///
    /// # Errors
    /// If it cannot be said.
    fn bytes(&self) -> Result<u64, StoreFault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_damage_and_a_failing_one_is() {
        let by = |errno: Errno| StoreFault::of_system("open", &errno.into()).by;
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::ROFS]
        {
            assert_eq!(by(errno), RefusedBy::Machine, "{errno}");
        }
        assert_eq!(by(Errno::IO), RefusedBy::Store);
        let other = std::io::Error::other("corrupt");
        assert_eq!(StoreFault::of_system("open", &other).by, RefusedBy::Store);
    }
}
