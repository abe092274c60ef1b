//! Every source of access keys against the metadata service, the security token service and the gateway of the simulated
//! cloud, over real HTTP: keys that end under load, clocks that differ, refreshes that are refused, files that are half
//! written; and that no secret is ever said.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

#[path = "cloud_credentials/canary.rs"]
mod canary;
#[path = "cloud_credentials/cells.rs"]
mod cells;
#[allow(dead_code, reason = "shared by the suites that have a simulated cloud")]
#[path = "policy/mod.rs"]
mod policy;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use natgw::cloud::credentials::{AccessKey, AddonToken, Chosen, CredentialError, Credentials, Refreshing, choose};
use natgw::cloud::endpoints::{Endpoints, Environment};
use natgw::cloud::meter::Calls;
use natgw::cloud::rpc::WallClock;
use natgw::cloud::{AliyunCloud, Settings};
use natgw::ports::cloud::{Cloud as _, CloudError, ErrorClass};
use natgw::sandbox::http::{Clock, Issuing, Options, Ways, serve_by};
use natgw::sandbox::vpc::{Deed, Spell, Stroke, Trouble};
use serde_json::Value;
use tokio::sync::oneshot;

/// 2026-11-22T08:00:00Z.
const NOW_MS: u64 = 1_795_334_400_000;

/// No text of a test may hold it, wherever it is written.
const CANARY: &str = "canary+secret/that=must#never be said";

const KEYRING: &str = "0123456789abcdef0123456789abcdef";

/// The server's clock; the client's differs by `skew_ms`.
#[derive(Clone, Default)]
struct Hands {
    elapsed_ms: Arc<AtomicU64>,
    skew_ms: Arc<AtomicI64>,
}

impl Hands {
    fn advance(&self, seconds: u64) {
        self.elapsed_ms.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    fn client(&self) -> WallClock {
        let hands = self.clone();
        Arc::new(move || {
            let ms = hands.wall_ms().checked_add_signed(hands.skew_ms.load(Ordering::SeqCst)).unwrap();
            SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
        })
    }
}

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        NOW_MS + self.elapsed_ms()
    }

    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Ordering::SeqCst)
    }
}

/// Everything that was logged by this process, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
        log
    })
}

struct Stage {
    hands: Hands,
    address: SocketAddr,
    folder: tempfile::TempDir,
    ledger: PathBuf,
}

impl Stage {
    /// Runs a cloud for as long as a test takes. Then no secret that was ever issued may stand in what was logged.
    fn run(options: Options, test: impl AsyncFnOnce(&Self)) {
        log();
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger");
        let hands = Hands::default();
        let options = Options { ledger: Some(ledger.clone()), ..options };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ready, address) = oneshot::channel();
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = serve_by(hands.clone(), options, |address| ready.send(address).unwrap(), async {
                drop(stopped.await);
            });
            let testing = async {
                let stage = Self { hands: hands.clone(), address: address.await.unwrap(), folder, ledger };
                test(&stage).await;
                drop(stop);
                // Its folder goes with it.
                stage
            };
            let (served, stage) = tokio::join!(serving, testing);
            served.unwrap();
            policy::kept_by(&stage.ledger);
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn environment(&self, variables: &[(&str, &str)]) -> Environment {
        let mut all: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.insert("ALICLOUD_CLIENT_SCHEME".to_owned(), "HTTP".to_owned());
        all.insert("METADATA_ENDPOINT".to_owned(), self.address.to_string());
        all.insert("ALIBABA_CLOUD_STS_ENDPOINT".to_owned(), self.address.to_string());
        Environment::from_lookup(|name| all.get(name).cloned())
    }

    fn oidc(&self) -> Environment {
        let file = self.path("token");
        if !file.exists() {
            std::fs::write(&file, format!("{CANARY}\n")).unwrap();
        }
        self.environment(&[
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/natgw-sandbox"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.to_str().unwrap()),
        ])
    }

    fn choose(&self, configured: Option<AccessKey>, environment: &Environment) -> (Chosen, Arc<dyn Credentials>) {
        choose(&self.path("token-config"), configured, environment, self.hands.client()).unwrap()
    }

    fn client(&self, credentials: Arc<dyn Credentials>) -> (AliyunCloud, Arc<Calls>) {
        let settings = Settings {
            region: "cn-hangzhou".to_owned(),
            vpc: "vpc-sandbox".to_owned(),
            endpoints: Endpoints::at(&format!("http://{}/", self.address)).unwrap(),
            mutating_timeout: Duration::from_secs(60),
            reading_timeout: Duration::from_secs(60),
        };
        let calls = Arc::new(Calls::default());
        let meter: Arc<Calls> = Arc::clone(&calls);
        (AliyunCloud::metered(settings, credentials, self.hands.client(), meter).unwrap(), calls)
    }

    fn exchanges(&self) -> usize {
        let text = std::fs::read_to_string(&self.ledger).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["action"] == "AssumeRoleWithOIDC").count()
    }
}

/// The client's key is taken: the whole way from the source to a signed answer.
async fn calls_well(client: &AliyunCloud) -> Result<u32, CloudError> {
    client.list_gateways(1).await.map(|page| page.total)
}

fn field(text: &str) -> String {
    let (iv, bytes) = ([9; 16], text.as_bytes());
    let mut buffer = bytes.to_vec();
    buffer.resize(bytes.len() + 16, 0);
    let encryptor = cbc::Encryptor::<aes::Aes256>::new_from_slices(KEYRING.as_bytes(), &iv).unwrap();
    let ciphertext = encryptor.encrypt_padded::<Pkcs7>(&mut buffer, bytes.len()).unwrap();
    STANDARD.encode([&iv[..], ciphertext].concat())
}

/// An addon token as ACK writes it, of a temporary key that the simulated cloud has issued.
async fn addon_token(stage: &Stage) -> String {
    let url = format!("http://{}/latest/meta-data/ram/security-credentials/natgw-sandbox", stage.address);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let key: Value = serde_json::from_str(&http.get(url).send().await.unwrap().text().await.unwrap()).unwrap();
    let of = |name: &str| field(key[name].as_str().unwrap());
    serde_json::json!({
        "access.key.id": of("AccessKeyId"),
        "access.key.secret": of("AccessKeySecret"),
        "security.token": of("SecurityToken"),
        "expiration": key["Expiration"],
        "keyring": KEYRING,
    })
    .to_string()
}

fn short_keys() -> Options {
    Options { issuing: Issuing { life_s: 900, ..Issuing::default() }, ..Options::default() }
}

#[test]
fn each_source_is_chosen_in_order_and_its_key_is_taken() {
    Stage::run(Options::default(), async |stage| {
        let key = || AccessKey::new("sandbox".to_owned(), "sandbox-secret".into(), None).unwrap();
        let pair = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "sandbox"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "sandbox-secret")];
        let (nothing, pair, oidc) = (stage.environment(&[]), stage.environment(&pair), stage.oidc());
        let mut chosen = vec![
            stage.choose(None, &nothing),
            stage.choose(None, &oidc),
            stage.choose(None, &pair),
            stage.choose(Some(key()), &pair),
        ];
        std::fs::write(stage.path("token-config"), addon_token(stage).await).unwrap();
        chosen.push(stage.choose(Some(key()), &pair));
        let expected = [Chosen::RamRole, Chosen::Oidc, Chosen::Environment, Chosen::Configuration, Chosen::AddonToken];
        for ((chosen, credentials), expected) in chosen.into_iter().zip(expected) {
            assert_eq!(chosen, expected);
            let (client, _) = stage.client(credentials);
            assert_eq!(calls_well(&client).await.unwrap(), 2, "{chosen:?}");
        }
        let off = stage.environment(&[("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")]);
        let none = choose(Path::new("/nowhere"), None, &off, stage.hands.client());
        assert!(matches!(none, Err(CredentialError::Nowhere)));
    });
}

#[test]
fn the_metadata_service_is_asked_the_hardened_way_and_the_plain_way_only_where_it_may() {
    for (ways, hardened, works) in [
        (Ways::Both, false, true),
        (Ways::Both, true, true),
        (Ways::Hardened, false, true),
        (Ways::Hardened, true, true),
        (Ways::Plain, false, true),
        (Ways::Plain, true, false),
    ] {
        let options = Options { issuing: Issuing { ways, ..Issuing::default() }, ..Options::default() };
        Stage::run(options, async |stage| {
            let variable = [("ALIBABA_CLOUD_IMDSV1_DISABLED", if hardened { "true" } else { "false" })];
            let (client, _) = stage.client(stage.choose(None, &stage.environment(&variable)).1);
            let called = calls_well(&client).await;
            assert_eq!(called.is_ok(), works, "{ways:?}, hardened {hardened}: {called:?}");
            // A metadata token that ended is replaced.
            stage.hands.advance(7 * 3_600);
            assert_eq!(calls_well(&client).await.is_ok(), works, "{ways:?}, hardened {hardened}");
        });
    }
}

#[test]
fn keys_end_under_load_and_nobody_notices() {
    Stage::run(short_keys(), async |stage| {
        let (client, calls) = stage.client(stage.choose(None, &stage.oidc()).1);
        // Four hours of 20 calls at once every half minute: each life of 900 s is renewed once, at 3/4 of it.
        for _ in 0..480 {
            let calls = std::iter::repeat_with(|| calls_well(&client)).take(20);
            for called in futures_util::future::join_all(calls).await {
                called.unwrap();
            }
            stage.hands.advance(30);
        }
        let (exchanges, lives) = (stage.exchanges(), 480 * 30 / (900 * 3 / 4));
        assert!((lives..=lives + 2).contains(&exchanges), "{exchanges} exchanges for {lives} lives");
        let snapshot = calls.snapshot();
        assert_eq!(snapshot.len(), 1, "{snapshot:?}");
        assert_eq!(snapshot[&("DescribeNatGateways", "ok")].count, 480 * 20);
        println!("{exchanges} exchanges, {lives} lives, {} calls, none refused", 480 * 20);
    });
}

#[test]
fn a_refused_refresh_costs_nothing_before_the_end_and_a_retry_after_it() {
    let minutes = |minute: u64| minute * 60_000;
    let refusing = vec![minutes(10)..minutes(14), minutes(20)..minutes(50)];
    let issuing = Issuing { life_s: 900, refusing, ..Issuing::default() };
    Stage::run(Options { issuing, ..Options::default() }, async |stage| {
        let sources = [stage.choose(None, &stage.oidc()).1, stage.choose(None, &stage.environment(&[])).1];
        let clients = sources.map(|source| stage.client(source).0);
        let mut failed = [0_u32; 2];
        for minute in 0..60 {
            for (client, failed) in clients.iter().zip(&mut failed) {
                // The first call may begin a flight beside it; the second finds it landed.
                for _ in 0..2 {
                    match calls_well(client).await {
                        Ok(_) => assert!(!(35..50).contains(&minute), "the key of minute 20 at the latest is over"),
                        Err(error) => {
                            assert_eq!((error.class, error.code.as_str()), (ErrorClass::RetryLater, "credentials"));
                            assert!((25..51).contains(&minute), "minute {minute}: {error}");
                            *failed += 1;
                        }
                    }
                }
            }
            stage.hands.advance(60);
        }
        assert!(failed.iter().all(|failed| *failed > 20), "{failed:?}");
        for client in &clients {
            calls_well(client).await.unwrap();
        }
    });
}

#[test]
fn clocks_that_differ_by_less_than_the_vendor_takes_do_no_harm() {
    for skew_s in [-840_i64, -300, 300, 840] {
        Stage::run(short_keys(), async |stage| {
            stage.hands.skew_ms.store(skew_s * 1_000, Ordering::SeqCst);
            let (client, calls) = stage.client(stage.choose(None, &stage.oidc()).1);
            let mut refused = 0;
            for _ in 0..240 {
                match calls_well(&client).await {
                    Ok(_) => {}
                    // The key ended for the server although not for us: the next call has a new one.
                    Err(error) => {
                        assert_eq!(error.code, "InvalidSecurityToken.Expired", "{error}");
                        refused += 1;
                        // Served once more while the renewal that the refusal began is under way.
                        let called = [calls_well(&client).await, calls_well(&client).await];
                        assert!(called.iter().any(Result::is_ok), "skew {skew_s}: {called:?}");
                    }
                }
                stage.hands.advance(30);
            }
            println!("skew {skew_s} s: {refused} of 240 refused, {} exchanges", stage.exchanges());
            assert!(refused <= 10, "{refused}");
            // By a clock that is ahead a new key has a minute to live; it is renewed ahead of that, not with each call.
            assert!(stage.exchanges() <= 180, "{} exchanges", stage.exchanges());
            assert!(calls.snapshot()[&("DescribeNatGateways", "ok")].count >= 230);
        });
    }
    Stage::run(short_keys(), async |stage| {
        stage.hands.skew_ms.store(16 * 60 * 1_000, Ordering::SeqCst);
        let (client, _) = stage.client(stage.choose(None, &stage.environment(&[])).1);
        let error = calls_well(&client).await.unwrap_err();
        assert!(error.class == ErrorClass::RetryLater && error.code == "credentials", "{error}");
    });
}

#[test]
fn a_key_that_was_deleted_is_replaced_before_its_end() {
    let deleted = Stroke::next(None, Deed::Trouble(Trouble::UnknownKey)).after(3);
    Stage::run(Options { plan: vec![deleted], ..Options::default() }, async |stage| {
        let (client, _) = stage.client(stage.choose(None, &stage.oidc()).1);
        for _ in 0..3 {
            calls_well(&client).await.unwrap();
        }
        let error = calls_well(&client).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Denied, "InvalidAccessKeyId.NotFound"));
        for _ in 0..3 {
            calls_well(&client).await.unwrap();
        }
        assert_eq!(stage.exchanges(), 2);
    });
}

#[test]
fn a_token_file_that_is_half_written_is_read_again_and_the_old_key_served_meanwhile() {
    Stage::run(short_keys(), async |stage| {
        let file = stage.path("token-config");
        std::fs::write(&file, addon_token(stage).await).unwrap();
        let (client, _) = stage.client(Arc::new(Refreshing::new(AddonToken::at(&file), stage.hands.client())));
        calls_well(&client).await.unwrap();
        let next = addon_token(stage).await;
        for length in [0, 1, next.len() / 2, next.len() - 1] {
            std::fs::write(&file, &next[..length]).unwrap();
            stage.hands.advance(200);
            for _ in 0..2 {
                calls_well(&client).await.unwrap();
            }
        }
        stage.hands.advance(120);
        let error = calls_well(&client).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::RetryLater, "the old key is over: {error}");
        std::fs::write(&file, addon_token(stage).await).unwrap();
        stage.hands.advance(60);
        calls_well(&client).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        stage.hands.advance(800);
        calls_well(&client).await.unwrap();
    });
}

#[test]
fn a_service_account_token_is_read_anew_for_every_exchange() {
    let issuing = Issuing { life_s: 900, oidc_token: Some("second".into()), ..Issuing::default() };
    Stage::run(Options { issuing, ..Options::default() }, async |stage| {
        let environment = stage.oidc();
        let (client, _) = stage.client(stage.choose(None, &environment).1);
        let error = calls_well(&client).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::RetryLater, "{error}");
        std::fs::write(stage.path("token"), "second").unwrap();
        stage.hands.advance(1);
        calls_well(&client).await.unwrap();
        for content in ["", " \n"] {
            std::fs::write(stage.path("token"), content).unwrap();
            stage.hands.advance(900);
            assert!(calls_well(&client).await.is_err(), "{content:?}");
        }
    });
}

/// Every way in which a secret could get out: errors, their debug output, logs at the finest level, counters, and panics
/// that show the client's parts.
#[test]
fn no_secret_is_ever_said() {
    let everything = Trouble::ALL.map(|trouble| Stroke::next(None, Deed::Trouble(trouble)));
    let novel = Stroke::next(None, Deed::Fault(natgw::sandbox::vpc::FaultKind::UnknownError));
    let options = Options {
        access_key: "canary".to_owned(),
        secret: "another secret".into(),
        plan: vec![novel],
        troubles: vec![Spell::of_all(Trouble::BadSignature, 5_000, 6_000)],
        ..Options::default()
    };
    let mut said = String::new();
    Stage::run(options, async |stage| {
        let key =
            AccessKey::new("canary".to_owned(), CANARY.into(), Some(format!("token of {CANARY}").into())).unwrap();
        write!(said, "{key:?} {:?}", stage.oidc()).unwrap();
        let pair = [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "canary"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", CANARY),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", CANARY),
        ];
        for credentials in [
            stage.choose(Some(key), &stage.environment(&[])).1,
            stage.choose(None, &stage.environment(&pair)).1,
            stage.choose(None, &stage.oidc()).1,
            stage.choose(None, &stage.environment(&[])).1,
        ] {
            let (client, calls) = stage.client(credentials);
            for _ in 0..=everything.len() {
                let called = calls_well(&client).await;
                write!(said, "{called:?} {:?}", calls.snapshot()).unwrap();
                if let Err(error) = called {
                    write!(said, "{error} {error:?}").unwrap();
                }
            }
        }
        // The echo of what should have been signed, with all parameters.
        let wrong = AccessKey::new("canary".to_owned(), CANARY.into(), None).unwrap();
        let (client, _) = stage.client(stage.choose(Some(wrong), &stage.environment(&[])).1);
        let error = calls_well(&client).await.unwrap_err();
        assert_eq!(error.code, "SignatureDoesNotMatch");
        write!(said, "{error:?}").unwrap();
        write!(said, "{}", std::fs::read_to_string(&stage.ledger).unwrap()).unwrap();
    });
    write!(said, "{}", String::from_utf8_lossy(&log().0.lock().unwrap())).unwrap();
    assert!(said.contains("OperationSuspended.Novel"), "a code that nobody documents is logged");
    assert!(said.contains("STS.sandbox"), "ids are said");
    let mut secrets = vec![CANARY.to_owned(), KEYRING.to_owned()];
    // Keys of the simulated cloud are reproducible: the first hundred of seed 0.
    for count in 1..=100 {
        for what in ["token", "tail", "secret"] {
            let text = format!("{what} of the simulated cloud 0 {count}");
            secrets.push(blake3::hash(text.as_bytes()).to_hex().to_string());
        }
    }
    for secret in secrets {
        let once = natgw::cloud::sign::percent_encode(&secret).to_string();
        let twice = natgw::cloud::sign::percent_encode(&once).to_string();
        for spelling in [secret, once, twice] {
            if let Some(at) = said.find(&spelling) {
                let from = said[..at].char_indices().rev().nth(200).map_or(0, |(from, _)| from);
                panic!("a secret was said: {}", &said[from..at]);
            }
        }
    }
}
