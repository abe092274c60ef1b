//! The simulated cloud of a sandbox: served on loopback, on a thread and a runtime of its own, so that the controller's
//! calls cross a real socket.

use std::sync::mpsc::sync_channel;
use std::{io, net::SocketAddr};

use tokio::sync::oneshot;

use crate::config::Configuration;
use crate::sandbox::http::{self, serve};
use crate::sandbox::vpc::{Behaviour, World};

use super::folder::Folder;
use super::{ACCESS_KEY, Error, Options};

/// A simulated cloud that is being served. Dropped, it is told to end; there is nothing to wait for, since every answer was
/// kept before it left.
pub(super) struct Served {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    end: oneshot::Receiver<Error>,
    failure: Option<Error>,
}

/// Starts it; its state is kept in the folder.
pub(super) fn start(
    folder: &Folder,
    options: &Options,
    configuration: Option<&Configuration>,
) -> Result<Served, Error> {
    let mut world = World::default();
    let mut key = (ACCESS_KEY.0.to_owned(), ACCESS_KEY.1.to_owned().into());
    if let Some(Configuration { region, vpc, credential, .. }) = configuration {
        world.region.clone_from(region);
        world.vpc.clone_from(vpc);
        if let Some(credential) = credential {
            key = credential.pair();
        }
    }
    let vendor = Behaviour::default();
    let entry_quota = options.entry_quota.unwrap_or(vendor.entry_quota);
    let (access_key, secret) = key;
    let served = http::Options {
        access_key,
        secret,
        world,
        behaviour: Behaviour { entry_quota, ..vendor },
        speed: options.speed.get(),
        state: Some(folder.cloud()),
        ..http::Options::default()
    };
    spawn(served)
}

fn spawn(options: http::Options) -> Result<Served, Error> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (say_end, end) = oneshot::channel();
    let (say_ready, ready) = sync_channel(1);
    let refused = say_ready.clone();
    let work = move || {
        let served = runtime().map_err(Error::Thread).and_then(|runtime| {
            let tell = move |address| {
                say_ready.send(Ok(address)).ok();
            };
            let asked = async move {
                stopped.await.ok();
            };
            runtime.block_on(serve(options, tell, asked)).map_err(|error| Error::Cloud(Box::new(error)))
        });
        if let Err(error) = served {
            // Before it was ready somebody waits there, afterwards here.
            if let Err(sent) = refused.try_send(Err(error))
                && let std::sync::mpsc::TrySendError::Full(Err(error))
                | std::sync::mpsc::TrySendError::Disconnected(Err(error)) = sent
            {
                say_end.send(error).ok();
            }
        }
    };
    std::thread::Builder::new().name("cloud".to_owned()).spawn(work).map_err(Error::Thread)?;
    let gone = || Error::Thread(io::Error::other("it ended before it listened"));
    let address = ready.recv().map_err(|_| gone())??;
    Ok(Served { address, _stop: stop, end, failure: None })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

impl Served {
    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends when it has ended by itself.
    pub(super) async fn wait(&mut self) {
        if self.failure.is_none() {
            self.failure = Some(
                (&mut self.end).await.unwrap_or_else(|_| Error::Thread(io::Error::other("it ended without a word"))),
            );
        }
    }

    /// Why it ended by itself.
    pub(super) fn ended(&mut self) -> Option<Error> {
        if self.failure.is_none() {
            self.failure = self.end.try_recv().ok();
        }
        self.failure.take()
    }
}

/// Ends with the simulated cloud; never where there is none.
pub(super) async fn ended(cloud: &mut Option<Served>) {
    match cloud {
        Some(cloud) => cloud.wait().await,
        None => std::future::pending().await,
    }
}
