//! S8 Replay: the fold of what is on disk is the fold that was, with the same agenda, and holds together.

use std::collections::BTreeMap;

use natgw::machine::check;
use natgw::machine::intent::Intent;
use natgw::machine::state::State;

use super::{Happening, Invariant, Look};

/// Digest and agenda of a state, and its next timer.
type Image = ([u8; 32], Vec<Intent>, Option<u64>);

#[derive(Default)]
struct Replay {
    /// Of each replica: how many records were durable when its state was those and no more, and what it was.
    was: BTreeMap<usize, (u64, Image)>,
}

pub(super) fn make() -> Box<dyn Invariant> {
    Box::new(Replay::default())
}

fn image(state: &State) -> Image {
    let agenda = state.agenda().iter().map(|(intent, _)| intent.clone());
    (state.digest(), agenda.collect(), state.next_timer_ms())
}

impl Invariant for Replay {
    fn look(&mut self, look: &Look<'_>, found: &mut Vec<String>) {
        for happening in look.happened {
            match happening {
                Happening::Opened { replica, records, rebased, .. } => {
                    let mut state = State::default();
                    for record in records {
                        if let Err(error) = state.apply(record) {
                            found.push(format!("replica {replica}: {error}"));
                            return;
                        }
                    }
                    for violation in check::all(&state).into_iter().chain(check::restored(&state)) {
                        found.push(format!("replica {replica} after replay: {violation}"));
                    }
                    if let Some((seq, was)) = self.was.remove(replica)
                        && rebased.is_none()
                        && !look.world.replicas[*replica].rolled_back
                        && seq == state.seq()
                        && was != image(&state)
                    {
                        found.push(format!(
                            "replica {replica} replays {seq} records to {:?}, not {was:?}",
                            image(&state)
                        ));
                    }
                }
                Happening::Durable { replica, records } => {
                    let process = look.world.replicas[*replica].process.as_ref();
                    if let (Some(process), Some(last)) = (process, records.last())
                        && process.controller.state().seq() == last.seq
                    {
                        self.was.insert(*replica, (last.seq, image(process.controller.state())));
                    }
                }
                Happening::Handed { .. } | Happening::Started { .. } | Happening::Stopped { .. } => {}
            }
        }
    }
}
