//! The journal is looked after beside everything else.

use crate::controller::keeping::Kept;
use crate::controller::step::{Controller, Now, Output};
use crate::machine::event::{Event, seen};

impl Controller {
    /// Looks after the journal. That its disk is short, or no longer, is a fact for the machine.
    pub(super) fn keep(&mut self, now: Now) {
        let Some(keeping) = &mut self.keeping else { return };
        if let Some(keep) = keeping.poll(now.monotonic_ms, now.wall_ms, self.durable.seq) {
            self.outbox.push_back(Output::Keep(keep));
        }
        let (short, room) = (keeping.is_short(), keeping.kept().and_then(|kept| kept.room));
        if let Some((free, floor)) = room.filter(|_| short != self.state.is_short()) {
            self.emit(now, Event::RoomSeen(seen::RoomSeen { free, floor, short }));
        }
    }

    pub(super) fn kept(&mut self, now: Now, kept: Kept) {
        if let Some(keeping) = &mut self.keeping {
            keeping.answered(now.monotonic_ms, self.durable.seq, kept);
        }
    }
}
