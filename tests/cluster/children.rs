//! Children that cannot outlive this program, whatever ends it.
//!
//! A child is this program itself: it asks the kernel to be killed with its parent and then becomes the program that was
//! asked for. The kernel means the *thread* that started it, so that all children are started by one thread that never ends.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::{env, io, thread};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The first argument of a child that has not yet become what it is to be.
const BECOME: &str = "--become-child-of";

/// A command that [`launch`] starts: arguments, environment and outputs are given to it as to any other.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(BECOME).arg(std::process::id().to_string()).arg(program);
    command
}

/// Starts a [`command`].
pub fn launch(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static LAUNCHER: OnceLock<Sender<Order>> = OnceLock::new();
    let launcher = LAUNCHER.get_or_init(|| {
        let (order, orders) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Nobody waits for the answer where the test has failed meanwhile; the child dies with the program.
                answer.send(command.spawn()).ok();
            }
        });
        order
    });
    let (answer, answered) = channel();
    launcher.send((command, answer)).unwrap();
    answered.recv().unwrap()
}

/// Where this process is a child that was just started: becomes the program, or says why it cannot.
pub fn become_one() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != *BECOME {
        return None;
    }
    let parent = arguments.next()?;
    let program = arguments.next()?;
    let error = exec(&parent, &program, arguments);
    eprintln!("{} was not started: {error}", program.display());
    Some(ExitCode::from(127))
}

fn exec(parent: &OsString, program: &OsString, arguments: impl Iterator<Item = OsString>) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // A parent that ended before the kernel was asked would never be missed.
    if getppid().is_none_or(|now| now.as_raw_nonzero().to_string() != parent.to_string_lossy()) {
        return io::Error::other("its parent has ended");
    }
    Command::new(program).args(arguments).exec()
}
