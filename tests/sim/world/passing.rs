//! Time, and what it brings: what watches show, and calls of earlier lives that land late.

use natgw::controller::step::Input;

use crate::faults::Fault;
use crate::volume::Broken;
use crate::world::World;

impl World {
    /// Time passes, until the next thing that is due at the latest.
    pub fn pass_time(&mut self) {
        let now = self.now.get();
        let due = [self.model.borrow().next_due(), self.vpc.borrow().next_due()];
        let processes = self.replicas.iter().filter_map(|replica| replica.process.as_ref());
        let woken = processes.filter_map(|process| process.due_ms());
        let starts = self.replicas.iter().filter(|replica| replica.process.is_none() && !replica.dead);
        let starts: Vec<u64> = starts.map(|replica| replica.starts_ms).collect();
        let next = due.into_iter().flatten().chain(woken).chain(starts).min().unwrap_or(now + 1_000).min(now + 60_000);
        let busy = self.replicas.iter().filter_map(|replica| replica.process.as_ref()).any(|process| {
            process.is_awake(now)
                && (!process.flights.is_empty() || process.handed.is_some() || process.written.is_some())
        });
        // With calls on their way time goes slowly, or every lease would be lost.
        let then = if busy { now + 1 + self.dice.draw(40) } else { next.max(now + 1) };
        self.pass_until(then.min(self.not_beyond.max(now)));
    }

    /// It is that time: what is due happens, who is to be woken is woken.
    pub fn pass_until(&mut self, then: u64) {
        self.now.set(then);
        self.vpc.borrow_mut().advance(then);
        self.model.borrow_mut().advance(then);
        self.wishes.insist(&mut self.model.borrow_mut());
        for at in 0..self.replicas.len() {
            let replica = &self.replicas[at];
            match &replica.process {
                Some(process) => {
                    if process.is_awake(then) && process.due_ms().is_some_and(|due| due <= then) {
                        self.input(at, Input::Woke);
                    }
                    self.settle(at);
                }
                None if !replica.dead && replica.starts_ms <= then => self.start(at),
                None => {}
            }
        }
    }

    /// A journal that has been idle for a while is settled.
    pub(super) fn settle(&mut self, at: usize) {
        let now = self.now.get();
        let process = self.process(at);
        let idle = process.handed.is_none() && process.settles_ms.is_some_and(|due| due <= now);
        if idle && process.is_awake(now) {
            process.settles_ms = None;
            if let Err(broken) = self.replicas[at].volume.settle() {
                self.crash(at, broken == Broken::Power);
            }
        }
    }

    /// Some watch shows something.
    pub(super) fn watch_some(&mut self) {
        let awake = self.awake();
        if awake.is_empty() {
            return self.pass_time();
        }
        let at = *self.dice.pick(&awake);
        self.watch(at);
    }

    /// A replica's watch shows what there is to show.
    pub fn watch(&mut self, at: usize) {
        let now = self.now.get();
        self.remember_changes();
        let end = self.history.len();
        let cut = self.outside.cut_until.borrow()[at] > now || self.outside.outage_until.get() > now;
        let watch = &self.process(at).watch;
        if cut || watch.silent_until > now {
            return;
        }
        let (behind, until) = watch.behind;
        let end = if until > now { end.saturating_sub(behind) } else { end };
        for seen in self.shown(at, end) {
            self.input(at, Input::Seen(seen));
        }
    }

    /// Every call of earlier lives arrives.
    pub fn land_all(&mut self) {
        while !self.late.is_empty() {
            self.land_some();
        }
        self.judge(Vec::new());
    }

    /// A call of an earlier life arrives.
    pub(super) fn land_some(&mut self) {
        let at = self.dice.index(self.late.len());
        let mut flight = self.late.swap_remove(at);
        self.outside.faults.borrow_mut().happened(Fault::LateCall, 1);
        // What it would do with the answer died with its process.
        let _ = flight.poll();
    }
}
