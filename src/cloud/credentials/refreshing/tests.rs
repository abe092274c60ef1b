use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::*;

/// A clock that a test moves.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn clock(&self) -> WallClock {
        let hands = self.clone();
        Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(hands.0.load(Ordering::SeqCst)))
    }

    fn set(&self, second: u64) {
        self.0.store(second, Ordering::SeqCst);
    }
}

/// Gives what it was told to give, each when the gate is opened once.
#[derive(Clone, Default)]
struct Scripted(Arc<Script>);

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Option<(&'static str, u64)>>>,
    gate: Notify,
    fetched: AtomicU64,
}

impl Scripted {
    /// A key that ends at a second, or a failure.
    fn then(&self, answer: Option<(&'static str, u64)>) {
        self.0.answers.lock().unwrap().push_back(answer);
    }

    fn open(&self) {
        self.0.gate.notify_one();
    }

    fn fetched(&self) -> u64 {
        self.0.fetched.load(Ordering::SeqCst)
    }
}

impl Source for Scripted {
    const NAME: &'static str = "the script";
    const REREAD: Option<Duration> = Some(Duration::from_secs(5_000));

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(async move {
            self.0.fetched.fetch_add(1, Ordering::SeqCst);
            self.0.gate.notified().await;
            let answer = self.0.answers.lock().unwrap().pop_front().unwrap();
            let (id, end) = answer.ok_or(CredentialError::Stale("script"))?;
            let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
            Ok(Temporary { key: AccessKey::new(id.to_owned(), "s".into(), None)?, expires })
        })
    }
}

struct Stage {
    hands: Hands,
    script: Scripted,
    served: Refreshing<Scripted>,
}

impl Stage {
    fn new() -> Self {
        let (hands, script) = (Hands::default(), Scripted::default());
        let served = Refreshing::new(script.clone(), hands.clock());
        Self { hands, script, served }
    }

    async fn id(&self) -> Result<String, CredentialError> {
        self.served.current().await.map(|key| key.id().to_owned())
    }

    /// Lets the flight that is under way land with this answer.
    async fn land(&self, answer: Option<(&'static str, u64)>) {
        let mut ended = self.served.0.ended.subscribe();
        self.script.then(answer);
        self.script.open();
        ended.changed().await.unwrap();
    }
}

fn run(test: impl AsyncFnOnce(Stage)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(test(Stage::new()));
}

#[test]
fn all_who_wait_share_one_flight() {
    run(async |stage| {
        stage.script.then(Some(("first", 3_600)));
        stage.script.open();
        let ids = tokio::join!(stage.id(), stage.id(), stage.id());
        assert_eq!((ids.0.unwrap(), ids.1.unwrap(), ids.2.unwrap()), ("first".into(), "first".into(), "first".into()));
        assert_eq!(stage.script.fetched(), 1);
    });
}

#[test]
fn a_key_is_renewed_ahead_of_its_end_and_served_until_the_new_one_is_there() {
    run(async |stage| {
        stage.script.then(Some(("first", 3_600)));
        stage.script.open();
        assert_eq!(stage.id().await.unwrap(), "first");
        stage.hands.set(3_600 - 15 * 60 - 1);
        assert_eq!(stage.id().await.unwrap(), "first");
        tokio::task::yield_now().await;
        assert_eq!(stage.script.fetched(), 1, "a second too early");
        stage.hands.set(3_600 - 15 * 60);
        for _ in 0..3 {
            assert_eq!(stage.id().await.unwrap(), "first", "nobody waits for the renewal");
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.script.fetched(), 2, "one flight at a time");
        stage.land(Some(("second", 7_200))).await;
        assert_eq!(stage.id().await.unwrap(), "second");
    });
}

#[test]
fn a_failure_costs_nothing_while_the_old_key_is_valid_and_everything_afterwards() {
    run(async |stage| {
        stage.script.then(Some(("first", 1_000)));
        stage.script.open();
        assert_eq!(stage.id().await.unwrap(), "first");
        stage.hands.set(750);
        assert_eq!(stage.id().await.unwrap(), "first", "a quarter of a short life is left");
        tokio::task::yield_now().await;
        stage.land(None).await;
        // The pauses are 1, 2, 4 s and so on up to 60 s.
        for (second, fetched) in [(750, 2), (751, 3), (752, 3), (753, 4), (756, 4), (757, 5)] {
            stage.hands.set(second);
            assert_eq!(stage.id().await.unwrap(), "first");
            tokio::task::yield_now().await;
            assert_eq!(stage.script.fetched(), fetched, "at {second}");
            if stage.served.0.lock().flying {
                stage.land(None).await;
            }
        }
        stage.hands.set(1_000);
        stage.script.then(None);
        stage.script.open();
        let error = stage.id().await.unwrap_err();
        assert!(matches!(error, CredentialError::Ended(_)) && error.may_pass(), "{error}");
        stage.hands.set(1_000 + 60);
        stage.script.then(Some(("late", 9_000)));
        stage.script.open();
        assert_eq!(stage.id().await.unwrap(), "late");
    });
}

#[test]
fn a_key_that_has_ended_already_is_none() {
    run(async |stage| {
        stage.hands.set(100);
        stage.script.then(Some(("old", 100)));
        stage.script.open();
        assert!(matches!(stage.id().await, Err(CredentialError::Ended(_))));
    });
}

#[test]
fn a_key_that_the_cloud_refused_is_renewed_although_its_end_is_far() {
    run(async |stage| {
        stage.script.then(Some(("first", 3_600)));
        stage.script.open();
        let first = stage.served.current().await.unwrap();
        stage.served.refused(&first);
        assert_eq!(stage.id().await.unwrap(), "first");
        tokio::task::yield_now().await;
        stage.land(Some(("second", 3_600))).await;
        stage.served.refused(&first);
        assert_eq!(stage.id().await.unwrap(), "second");
        tokio::task::yield_now().await;
        assert_eq!(stage.script.fetched(), 2, "the refusal of an earlier key says nothing about this one");
    });
}

#[test]
fn a_source_is_asked_again_after_a_while_although_the_key_lives() {
    run(async |stage| {
        stage.script.then(Some(("first", 100_000)));
        stage.script.open();
        assert_eq!(stage.id().await.unwrap(), "first");
        stage.hands.set(5_000);
        assert_eq!(stage.id().await.unwrap(), "first");
        tokio::task::yield_now().await;
        assert_eq!(stage.script.fetched(), 2);
    });
}

#[test]
fn a_flight_that_is_cut_off_lets_another_begin() {
    let stage = Stage::new();
    let cut = tokio::runtime::Builder::new_current_thread().build().unwrap();
    cut.block_on(async {
        let mut waiting = stage.served.current();
        std::future::poll_fn(|context| {
            assert!(waiting.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    });
    drop(cut);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    stage.script.then(Some(("first", 3_600)));
    stage.script.open();
    assert_eq!(runtime.block_on(stage.id()).unwrap(), "first");
}

#[test]
fn a_clock_that_is_set_back_ends_the_pause_after_a_failure() {
    run(async |stage| {
        // Hours ahead: whatever is fetched has ended by this clock.
        stage.hands.set(50_000);
        stage.script.then(Some(("ended", 3_600)));
        stage.script.open();
        assert!(stage.id().await.is_err());
        stage.hands.set(10);
        stage.script.then(Some(("good", 3_600)));
        stage.script.open();
        assert_eq!(stage.id().await.unwrap(), "good");
    });
}

#[test]
fn a_key_is_renewed_when_the_clock_was_set_back_behind_its_fetch() {
    run(async |stage| {
        stage.hands.set(50_000);
        stage.script.then(Some(("first", 53_600)));
        stage.script.open();
        assert_eq!(stage.id().await.unwrap(), "first");
        // By this clock it lives for fifteen hours; who knows how long it does.
        stage.hands.set(10);
        assert_eq!(stage.id().await.unwrap(), "first");
        tokio::task::yield_now().await;
        stage.land(Some(("second", 3_610))).await;
        for second in [10, 11, 900] {
            stage.hands.set(second);
            assert_eq!(stage.id().await.unwrap(), "second");
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.script.fetched(), 2, "once, not with every call");
    });
}
