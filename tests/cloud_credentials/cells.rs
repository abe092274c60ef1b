//! Every source of access keys in every situation that ends or disturbs keys: each cell runs, or says why it cannot be.

use std::collections::BTreeSet;

use super::*;

/// What may happen to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Situation {
    ExpiryUnderLoad,
    ClockSkew,
    RefusedRefresh,
    HalfWrittenFile,
}

const SITUATIONS: [Situation; 4] = [ExpiryUnderLoad, ClockSkew, RefusedRefresh, HalfWrittenFile];

const SOURCES: [Chosen; 5] =
    [Chosen::AddonToken, Chosen::Configuration, Chosen::Environment, Chosen::Oidc, Chosen::RamRole];

/// What is known of a source in a situation.
enum Cell {
    Runs(fn(Chosen)),
    CannotBe(&'static str),
}

use Cell::{CannotBe, Runs};
use Situation::{ClockSkew, ExpiryUnderLoad, HalfWrittenFile, RefusedRefresh};

const LASTS: &str = "the key lasts for ever, and nothing in it says when it would end";
const NEVER_RENEWED: &str = "the key is given once, at the start, so there is no refresh that could be refused";
const NOT_FROM_A_FILE: &str =
    "the key is read once with the configuration, which as a whole is refused where it is cut";
const NO_FILE: &str = "the key comes from no file";

const CELLS: [(Chosen, Situation, Cell); 20] = [
    (Chosen::AddonToken, ExpiryUnderLoad, Runs(keys_end_under_load)),
    (Chosen::AddonToken, ClockSkew, Runs(clocks_differ)),
    (Chosen::AddonToken, RefusedRefresh, Runs(a_refresh_is_refused)),
    (Chosen::AddonToken, HalfWrittenFile, Runs(a_file_is_half_written)),
    (Chosen::Configuration, ExpiryUnderLoad, CannotBe(LASTS)),
    (Chosen::Configuration, ClockSkew, Runs(clocks_differ)),
    (Chosen::Configuration, RefusedRefresh, CannotBe(NEVER_RENEWED)),
    (Chosen::Configuration, HalfWrittenFile, CannotBe(NOT_FROM_A_FILE)),
    (Chosen::Environment, ExpiryUnderLoad, CannotBe(LASTS)),
    (Chosen::Environment, ClockSkew, Runs(clocks_differ)),
    (Chosen::Environment, RefusedRefresh, CannotBe(NEVER_RENEWED)),
    (Chosen::Environment, HalfWrittenFile, CannotBe(NO_FILE)),
    (Chosen::Oidc, ExpiryUnderLoad, Runs(keys_end_under_load)),
    (Chosen::Oidc, ClockSkew, Runs(clocks_differ)),
    (Chosen::Oidc, RefusedRefresh, Runs(a_refresh_is_refused)),
    (Chosen::Oidc, HalfWrittenFile, Runs(a_file_is_half_written)),
    (Chosen::RamRole, ExpiryUnderLoad, Runs(keys_end_under_load)),
    (Chosen::RamRole, ClockSkew, Runs(clocks_differ)),
    (Chosen::RamRole, RefusedRefresh, Runs(a_refresh_is_refused)),
    (Chosen::RamRole, HalfWrittenFile, CannotBe(NO_FILE)),
];

/// Seconds between two replacements of an addon token, far ahead of the end of a key of 900 s.
const REPLACED_EVERY_S: u64 = 300;

#[test]
fn every_source_is_covered_in_every_situation() {
    let covered: BTreeSet<(String, Situation)> =
        CELLS.iter().map(|(source, situation, _)| (format!("{source:?}"), *situation)).collect();
    let all = SOURCES.iter().flat_map(|source| SITUATIONS.map(|situation| (format!("{source:?}"), situation)));
    assert_eq!(covered, all.collect());
    let mut ran = 0;
    for (source, situation, cell) in &CELLS {
        match cell {
            Runs(test) => {
                test(*source);
                ran += 1;
                println!("{source:?}, {situation:?}: ran");
            }
            CannotBe(why) => println!("{source:?}, {situation:?}: cannot be, because {why}"),
        }
    }
    println!("{ran} of {} cells ran", CELLS.len());
    assert_eq!(ran, 13);
}

/// A client whose key comes from this source and from no other.
async fn client_of(stage: &Stage, source: Chosen) -> (AliyunCloud, Arc<Calls>) {
    let key = || AccessKey::new("sandbox".to_owned(), "sandbox-secret".into(), None).unwrap();
    let pair = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "sandbox"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "sandbox-secret")];
    let (configured, environment) = match source {
        Chosen::AddonToken => {
            replace_addon_token(stage).await;
            (None, stage.environment(&[]))
        }
        Chosen::Configuration => (Some(key()), stage.environment(&[])),
        Chosen::Environment => (None, stage.environment(&pair)),
        Chosen::Oidc => (None, stage.oidc()),
        Chosen::RamRole => (None, stage.environment(&[])),
    };
    let (chosen, credentials) = stage.choose(configured, &environment);
    assert_eq!(chosen, source);
    stage.client(credentials)
}

async fn replace_addon_token(stage: &Stage) {
    std::fs::write(stage.path("token-config"), addon_token(stage).await).unwrap();
}

/// Lets time pass, in which whoever writes the source's file does so.
async fn pass(stage: &Stage, source: Chosen, seconds: u64) {
    let before_s = stage.hands.elapsed_ms() / 1_000;
    stage.hands.advance(seconds);
    if source == Chosen::AddonToken && before_s / REPLACED_EVERY_S < (before_s + seconds) / REPLACED_EVERY_S {
        replace_addon_token(stage).await;
    }
}

fn keys_end_under_load(source: Chosen) {
    Stage::run(short_keys(), async |stage| {
        let (client, calls) = client_of(stage, source).await;
        // An hour and a half of 20 calls at once every half minute, in which a key of 900 s ends six times.
        for _ in 0..180 {
            let together = std::iter::repeat_with(|| calls_well(&client)).take(20);
            for called in futures_util::future::join_all(together).await {
                called.unwrap();
            }
            pass(stage, source, 30).await;
        }
        let snapshot = calls.snapshot();
        assert_eq!(snapshot.len(), 1, "{source:?}: {snapshot:?}");
        assert_eq!(snapshot[&("DescribeNatGateways", "ok")].count, 180 * 20);
    });
}

fn clocks_differ(source: Chosen) {
    for skew_s in [-840_i64, -300, 300, 840] {
        Stage::run(short_keys(), async |stage| {
            stage.hands.skew_ms.store(skew_s * 1_000, Ordering::SeqCst);
            let (client, _) = client_of(stage, source).await;
            let mut refused = 0;
            for n in 0..120 {
                if let Err(error) = calls_well(&client).await {
                    // The key ended for the server although not for us; or for us while its file was not replaced yet.
                    let known = ["InvalidSecurityToken.Expired", "credentials"].contains(&error.code.as_str());
                    assert!(known, "{source:?}, skew {skew_s}, call {n}: {error}");
                    refused += 1;
                    // A second later, and once more for whoever is served while the renewal is under way.
                    pass(stage, source, 1).await;
                    let mut called = Vec::new();
                    while called.len() < 10 && !called.last().is_some_and(Result::is_ok) {
                        called.push(calls_well(&client).await);
                    }
                    let waits_for_its_file = source == Chosen::AddonToken && error.code == "credentials";
                    assert!(waits_for_its_file || called.iter().any(Result::is_ok), "skew {skew_s}: {called:?}");
                }
                pass(stage, source, 30).await;
            }
            println!("{source:?}, skew {skew_s} s: {refused} of 120 refused, {} exchanges", stage.exchanges());
            // By a clock that is 840 s ahead an addon token of 900 s has a minute to live, and a new one comes every 300 s.
            let may = if source == Chosen::AddonToken && skew_s == 840 { 110 } else { 5 };
            assert!(refused <= may, "{source:?}, skew {skew_s}: {refused}");
            assert!(stage.exchanges() <= 120);
        });
    }
    a_clock_is_set_right(source);
}

/// A machine that starts with a clock hours ahead gets no key that is valid by it, or signs for no valid moment. When its
/// clock is set right, the next call but a moment later is as good as any.
fn a_clock_is_set_right(source: Chosen) {
    const HOURS_MS: i64 = 5 * 3_600 * 1_000;
    Stage::run(short_keys(), async |stage| {
        stage.hands.skew_ms.store(HOURS_MS, Ordering::SeqCst);
        let (client, _) = client_of(stage, source).await;
        for _ in 0..3 {
            calls_well(&client).await.unwrap_err();
            stage.hands.advance(2);
        }
        stage.hands.skew_ms.store(0, Ordering::SeqCst);
        calls_well(&client).await.unwrap_or_else(|error| panic!("{source:?}, set back: {error}"));
        // Behind by hours it signs for no valid moment either; afterwards keys end when they end.
        stage.hands.skew_ms.store(-HOURS_MS, Ordering::SeqCst);
        calls_well(&client).await.unwrap_err();
        stage.hands.skew_ms.store(0, Ordering::SeqCst);
        for _ in 0..60 {
            calls_well(&client).await.unwrap_or_else(|error| panic!("{source:?}, set forward: {error}"));
            pass(stage, source, 30).await;
        }
    });
}

fn a_refresh_is_refused(source: Chosen) {
    let minutes = |minute: u64| minute * 60_000;
    // The keys of 900 s are renewed after 675 s, those of a file after 600 s.
    let refusing = std::iter::once(minutes(1)..minutes(40)).collect();
    let issuing = Issuing { life_s: 900, refusing, ..Issuing::default() };
    Stage::run(Options { issuing, ..Options::default() }, async |stage| {
        let (client, _) = client_of(stage, source).await;
        for minute in 0..50 {
            // The addon token is written anew by somebody whom nobody refuses any more.
            if source == Chosen::AddonToken && minute == 40 {
                replace_addon_token(stage).await;
            }
            let mut called = calls_well(&client).await;
            if (40..42).contains(&minute) && called.is_err() {
                stage.hands.advance(1);
                called = calls_well(&client).await;
            }
            match called {
                Ok(_) => assert!(!(15..40).contains(&minute), "{source:?}, minute {minute}: the key is over"),
                Err(error) => {
                    assert_eq!((error.class, error.code.as_str()), (ErrorClass::RetryLater, "credentials"));
                    assert!((15..42).contains(&minute), "{source:?}, minute {minute}: {error}");
                }
            }
            stage.hands.advance(60);
            if minute % 5 == 0 && minute > 40 && source == Chosen::AddonToken {
                replace_addon_token(stage).await;
            }
        }
    });
}

/// Each file is cut in several places while the key that came of it lives, and found cut by the renewal; the old key is
/// served as long as it lives, and the next one as soon as the file is whole.
fn a_file_is_half_written(source: Chosen) {
    const TOKEN: &str = "a service account token";
    let issuing = Issuing { life_s: 900, oidc_token: Some(TOKEN.into()), ..Issuing::default() };
    for part in 0..4 {
        Stage::run(Options { issuing: issuing.clone(), ..Options::default() }, async |stage| {
            let file = stage.path(if source == Chosen::Oidc { "token" } else { "token-config" });
            if source == Chosen::Oidc {
                std::fs::write(&file, TOKEN).unwrap();
            }
            let (client, _) = client_of(stage, source).await;
            calls_well(&client).await.unwrap();
            let whole = std::fs::read(&file).unwrap();
            std::fs::write(&file, &whole[..part * (whole.len() - 1) / 3]).unwrap();
            // Renewals begin after 600 s or 675 s and fail from then on.
            for _ in 0..28 {
                stage.hands.advance(30);
                calls_well(&client).await.unwrap_or_else(|error| panic!("{source:?}, part {part}: {error}"));
            }
            stage.hands.advance(61);
            let error = calls_well(&client).await.unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::RetryLater, "credentials"));
            match source {
                Chosen::Oidc => std::fs::write(&file, TOKEN).unwrap(),
                _ => replace_addon_token(stage).await,
            }
            stage.hands.advance(60);
            calls_well(&client).await.unwrap_or_else(|error| panic!("{source:?}, part {part}, whole again: {error}"));
        });
    }
}
