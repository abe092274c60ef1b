//! Canaries: secrets of every source, given to servers that say them back in every spelling and in every kind of answer.
//! Nothing that natgw says, writes down or counts may hold one.

#![allow(clippy::disallowed_methods, reason = "a child is waited for by the clock")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicUsize;

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use natgw::cloud::sign::percent_encode;
use natgw::machine::identity::{Protocol, Tuple};
use natgw::ports::cloud::{CreateEntry, DeleteEntry};
use serde_json::json;

use super::*;

const SECRET: &str = "canary+of/the=key's secret";
const TOKEN: &str = "CAIS+canary/of+the/security=token==";
const OIDC: &str = "eyJ-canary.of/the+service.account=token";
const METADATA: &str = "canary+of/the+metadata=token==";
const WRAPPING: &str = "canary+keyring/0123456789abcdef=";

const CANARIES: [&str; 5] = [SECRET, TOKEN, OIDC, METADATA, WRAPPING];

/// How a secret may be spelled where it is said.
fn spellings(secret: &str) -> Vec<String> {
    let lower = |text: &str| {
        let parts: Vec<String> = text
            .split('%')
            .enumerate()
            .map(|(n, part)| match (n, part.split_at_checked(2)) {
                (0, _) | (_, None) => part.to_owned(),
                (_, Some((digits, rest))) => digits.to_lowercase() + rest,
            })
            .collect();
        parts.join("%")
    };
    let once = percent_encode(secret).to_string();
    let twice = percent_encode(&once).to_string();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.to_owned(),
        lower(&once),
        percent_encode(&lower(&once)).to_string(),
        once,
        twice,
        secret.replace('/', "\\/"),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex.to_uppercase(),
        hex,
    ]
}

/// What leads to a canary in a text, where there is one.
fn leak(said: &str) -> Option<String> {
    let spelled = CANARIES.iter().flat_map(|canary| spellings(canary));
    let at = spelled.filter_map(|spelling| said.find(&spelling)).min()?;
    let from = said[..at].char_indices().rev().nth(200).map_or(0, |(from, _)| from);
    let until = said[at..].char_indices().nth(40).map_or(said.len(), |(until, _)| at + until);
    Some(said[from..until].to_owned())
}

/// Status and body; a connection that ends without a word where absent.
type Answer = Option<(u16, String)>;

/// What a server does with a secret that it says back.
const WAYS: [fn(&str) -> Answer; 11] = [
    |echo| error(403, "SignatureDoesNotMatch", echo),
    |echo| error(400, "Throttling.User", echo),
    |echo| error(403, "InvalidSecurityToken.Expired", echo),
    |echo| error(500, "InternalError", echo),
    // A code that nobody documents is logged with its body; here it is new each time.
    |echo| error(400, &format!("Novel.{}", &blake3::hash(echo.as_bytes()).to_hex()[..9]), echo),
    |echo| error(400, echo, "the code"),
    |echo| Some((400, json!({ "Code": "Novel", "Message": "m", "RequestId": echo }).to_string())),
    |echo| Some((200, json!({ "RequestId": "R", "TotalCount": echo, "ForwardEntryId": [echo] }).to_string())),
    |echo| Some((200, json!({ "RequestId": echo, "ForwardEntryId": "fwd-1" }).to_string())),
    |echo| Some((502, format!("<html>{echo}</html>"))),
    |_| None,
];

fn error(status: u16, code: &str, message: &str) -> Answer {
    Some((status, json!({ "Code": code, "Message": message, "RequestId": "R" }).to_string()))
}

/// A metadata service, a security token service and a cloud at one address, of which the last never does what it is asked.
struct Mirror {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Mirror {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut renewals = 0;
            for stream in listener.incoming() {
                // Whoever was cut off has nothing to hear.
                drop(serve(&mut stream.unwrap(), &counted, &mut renewals));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(stream: &mut TcpStream, asked: &AtomicUsize, renewals: &mut usize) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let answer = answer(&line, asked, renewals);
    if let Some((status, body)) = answer {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} words\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")?;
    }
    Ok(())
}

fn answer(line: &str, asked: &AtomicUsize, renewals: &mut usize) -> Answer {
    let key = json!({
        "Code": "Success", "AccessKeyId": "STS.canary", "AccessKeySecret": SECRET, "SecurityToken": TOKEN,
        "Expiration": "2026-11-22T09:00:00Z",
    });
    let good = |text: &str| Some((200, text.to_owned()));
    let path = line.split(' ').nth(1).unwrap_or_default();
    let identity = path.starts_with("/latest/") || path.contains("AssumeRoleWithOIDC");
    if !identity {
        let n = asked.fetch_add(1, Ordering::SeqCst);
        let sent: Vec<String> = [SECRET, TOKEN].into_iter().flat_map(spellings).collect();
        return WAYS[n % WAYS.len()](&sent[n / WAYS.len() % sent.len()]);
    }
    *renewals += 1;
    // One in three fails, one after the other in every way, and says what it was sent.
    let sent = spellings(if path.starts_with("/latest/") { METADATA } else { OIDC });
    let (n, fails) = (*renewals, (*renewals / 4).is_multiple_of(3));
    let broken = json!({ "Credentials": { "AccessKeySecret": SECRET, "SecurityToken": [TOKEN] }, "Code": TOKEN });
    match path {
        _ if fails && n.is_multiple_of(5) => good(&broken.to_string()),
        _ if fails => WAYS[n % WAYS.len()](&sent[n % sent.len()]),
        "/latest/api/token" => good(METADATA),
        "/latest/meta-data/ram/security-credentials/" => good("role"),
        _ if path.starts_with("/latest/") => good(&key.to_string()),
        _ => good(&json!({ "Credentials": key }).to_string()),
    }
}

const fn failed(error: CloudError) -> Result<(), CloudError> {
    Err(error)
}

/// An error in all its words, and in those of a panic.
fn words(error: CloudError, panics: bool) -> String {
    let mut said = format!("{error} {error:?} {error:#?}");
    if !panics {
        return said;
    }
    let panicked = catch_unwind(|| failed(error).unwrap()).unwrap_err();
    said.push_str(panicked.downcast_ref::<String>().unwrap());
    said
}

#[test]
fn no_canary_of_any_source_is_said() {
    let mut said = String::new();
    let mirror = Mirror::start();
    Stage::run(Options::default(), async |stage| {
        std::fs::write(stage.path("token"), OIDC).unwrap();
        let reach = |variables: &[(&str, &str)]| {
            let own = mirror.address.to_string();
            let mut all: BTreeMap<String, String> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            all.insert("ALICLOUD_CLIENT_SCHEME".to_owned(), "HTTP".to_owned());
            all.insert("METADATA_ENDPOINT".to_owned(), own.clone());
            all.insert("ALIBABA_CLOUD_STS_ENDPOINT".to_owned(), own);
            Environment::from_lookup(|name| all.get(name).cloned())
        };
        let file = stage.path("token");
        let oidc = [
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/natgw"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ack"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.to_str().unwrap()),
        ];
        let pair = [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "canary"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", TOKEN),
        ];
        let configured = AccessKey::new("canary".to_owned(), SECRET.into(), Some(TOKEN.into())).unwrap();
        let addon = stage.path("addon");
        std::fs::write(&addon, wrapped()).unwrap();
        let none = stage.path("no addon token");
        for (expected, token_file, configured, environment) in [
            (Chosen::AddonToken, &addon, None, reach(&[])),
            (Chosen::Configuration, &none, Some(configured), reach(&[])),
            (Chosen::Environment, &none, None, reach(&pair)),
            (Chosen::Oidc, &none, None, reach(&oidc)),
            (Chosen::RamRole, &none, None, reach(&[])),
        ] {
            write!(said, "{configured:?} {environment:?}").unwrap();
            let hands = Hands::default();
            let (chosen, credentials) = choose(token_file, configured, &environment, hands.client()).unwrap();
            assert_eq!(chosen, expected);
            let before = mirror.asked();
            said.push_str(&call_in_every_way(&mirror, &hands, credentials, &addon).await);
            let asked = mirror.asked() - before;
            println!("{chosen:?}: {asked} answers with canaries");
            assert!(asked >= WAYS.len() * 20, "{chosen:?}: {asked}");
        }
    });
    said.push_str(&String::from_utf8_lossy(&log().0.lock().unwrap()));
    for known in ["SignatureDoesNotMatch", "InvalidSecurityToken.Expired", "Novel", "undecodable", "credentials"] {
        assert!(said.contains(known), "{known} was not met");
    }
    if let Some(leak) = leak(&said) {
        panic!("a canary was said: {leak}");
    }
}

/// Calls until each way was met with each spelling; meanwhile keys end, are renewed, and fail to be.
async fn call_in_every_way(mirror: &Mirror, hands: &Hands, credentials: Arc<dyn Credentials>, addon: &Path) -> String {
    let settings = Settings {
        region: "cn-hangzhou".to_owned(),
        vpc: "vpc-1".to_owned(),
        endpoints: Endpoints::at(&format!("http://{}/", mirror.address)).unwrap(),
        mutating_timeout: Duration::from_secs(60),
        reading_timeout: Duration::from_secs(60),
    };
    let calls = Arc::new(Calls::default());
    let meter: Arc<Calls> = Arc::clone(&calls);
    let client = AliyunCloud::metered(settings, credentials, hands.client(), meter).unwrap();
    let tuple = Tuple {
        external_ip: [203, 0, 113, 1].into(),
        external_port: 512,
        internal_ip: [172, 16, 0, 9].into(),
        internal_port: 80,
        protocol: Protocol::Tcp,
    };
    let (table, token) = ("ftb-1".into(), "t".to_owned());
    let creation = CreateEntry { table, tuple, name: "n".to_owned(), token: token.clone(), port_break: false };
    let deletion = DeleteEntry { table: "ftb-1".into(), entry: "fwd-1".into(), token };
    let (mut said, until) = (String::new(), mirror.asked() + WAYS.len() * 20);
    let mut n = 0;
    while mirror.asked() < until {
        n += 1;
        assert!(n < 20_000, "the mirror is not asked");
        // The addon token is cut and whole by turns.
        let whole = wrapped();
        std::fs::write(addon, if n % 7 < 5 { &whole[..] } else { &whole[..whole.len() / 2] }).unwrap();
        let error = match n % 3 {
            0 => client.list_gateways(1).await.err(),
            1 => client.create_entry(&creation).await.err(),
            _ => client.delete_entry(&deletion).await.err(),
        };
        // A panic says what its error does, and tells it to the tester, too.
        said.push_str(&error.map(|error| words(error, n < 2 * WAYS.len())).unwrap_or_default());
        // Over by 09:00: then all that is left is to be refused, so time goes slowly.
        hands.elapsed_ms.fetch_add(1_000, Ordering::SeqCst);
    }
    write!(said, "{:?} {calls:?}", calls.snapshot()).unwrap();
    said
}

/// An addon token whose key is the canary.
fn wrapped() -> String {
    let of = |text: &str| {
        let mut buffer = text.as_bytes().to_vec();
        buffer.resize(text.len() + 16, 0);
        let encryptor = cbc::Encryptor::<aes::Aes256>::new_from_slices(WRAPPING.as_bytes(), &[9; 16]).unwrap();
        let ciphertext = encryptor.encrypt_padded::<Pkcs7>(&mut buffer, text.len()).unwrap();
        STANDARD.encode([&[9; 16][..], ciphertext].concat())
    };
    json!({
        "access.key.id": of("STS.canary"), "access.key.secret": of(SECRET), "security.token": of(TOKEN),
        "expiration": "2026-11-22T09:00:00Z", "keyring": WRAPPING,
    })
    .to_string()
}

#[test]
fn a_leak_is_seen_wherever_it_is_and_however_it_is_spelled() {
    for canary in CANARIES {
        for spelling in spellings(canary) {
            assert!(leak(&format!("before {spelling} after")).unwrap().contains(&spelling[..8]), "{spelling}");
        }
    }
    assert_eq!(leak("nothing of it"), None);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || tracing::info!(secret = SECRET, "said by mistake"));
    assert!(leak(&String::from_utf8_lossy(&log.0.lock().unwrap())).unwrap().contains("said by mistake"));
}

/// The real program: what it says on both outputs and writes to its folder.
fn natgw(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_natgw"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const KEY: [(&str, &str); 2] = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "canary"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET)];

/// Everything below a folder, as text as far as it is one.
fn content(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.is_dir() {
        true => content(&path),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned(),
    };
    entries.map(text).collect()
}

#[test]
fn the_program_says_no_canary_and_its_journal_holds_none() {
    let room = tempfile::tempdir().unwrap();
    let path = |name: &str| room.path().join(name).to_str().unwrap().to_owned();
    // A cloud that knows the key, echoes what should have been signed, and answers codes that nobody documents.
    let (folder, ledger) = (path("kept"), path("ledger"));
    let arguments = ["cloud", "--listen", "127.0.0.1:0", "--access-key", "canary", "--secret", SECRET, "--speed", "20"];
    let faults = ["--fault", "unknown-error=0.2", "--fault", "lost-reply=0.1", "--trouble", "bad-signature=0..3000"];
    let mut cloud = natgw(&[&arguments[..], &faults, &["--quiet-from", "40000", "--ledger", &ledger]].concat(), &[])
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(cloud.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap();
    let sandbox = ["--debug", "sandbox", "--verbose", "--cloud", url, "--journal", &folder];
    let settled = natgw(&[&sandbox[..], &["--settle", "--speed", "20", "-o", "json"]].concat(), &KEY).output().unwrap();
    let plan = natgw(&["--debug", "plan", "--sandbox", &folder, "--cloud", url], &KEY).output().unwrap();
    cloud.kill().unwrap();
    let cloud = cloud.wait_with_output().unwrap();
    policy::kept_by(Path::new(&ledger));
    let mut said = String::new();
    let mut note = |output: &std::process::Output| {
        for bytes in [&output.stdout, &output.stderr] {
            said.push_str(&String::from_utf8_lossy(bytes));
        }
    };
    [&settled, &plan, &cloud].into_iter().for_each(&mut note);
    let status = (settled.status.success(), plan.status.code());
    // A plan may find something that the cloud does not let it read.
    assert!(status.0 && matches!(status.1, Some(0 | 1)), "{status:?}: {said}");
    // A cloud that answers nothing well, for as long as it takes to be asked in every way.
    let mirror = Mirror::start();
    let (other, address) = (path("other"), format!("http://{}", mirror.address));
    let token = [&KEY[..], &[("ALIBABA_CLOUD_SECURITY_TOKEN", TOKEN)]].concat();
    let mut lost = natgw(&["--debug", "sandbox", "--cloud", &address, "--journal", &other, "--speed", "50"], &token)
        .stderr(std::fs::File::create(path("lost")).unwrap())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while mirror.asked() < 2 * WAYS.len() {
        assert!(std::time::Instant::now() < until, "the mirror was asked {} times", mirror.asked());
        assert!(lost.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(path("lost")).unwrap());
        std::thread::yield_now();
    }
    lost.kill().unwrap();
    note(&lost.wait_with_output().unwrap());
    // Configurations that cannot be used.
    for (n, broken) in broken_configurations().into_iter().enumerate() {
        let config = path(&format!("broken-{n}.yaml"));
        std::fs::write(&config, &broken).unwrap();
        let output = natgw(&["--debug", "run", "--config", &config, "--kubeconfig", "/nowhere"], &[]).output().unwrap();
        assert!(!output.status.success());
        note(&output);
        std::fs::remove_file(&config).unwrap();
    }
    let history = natgw_replay::history::History::open(&[PathBuf::from(&folder)]).unwrap();
    let records: Vec<String> = history.journals[0].records().map(|record| format!("{record:?}")).collect();
    assert!(records.len() >= 10, "{}", records.len());
    said.push_str(&records.join("\n"));
    said.push_str(&content(room.path()));
    assert!(said.contains("Novel") && said.contains("NATGW-CONFIG"), "what is to be said is");
    if let Some(leak) = leak(&said) {
        panic!("a canary was said: {leak}");
    }
    println!("{} records and {} bytes hold no canary", records.len(), said.len());
}

/// The secret where it cannot be read, beside what cannot be read, and whole in a file with which something else is wrong.
fn broken_configurations() -> Vec<String> {
    let good = "clusterID: c1\nregionID: cn-hangzhou\nvpcID: vpc-1\nenableControllers: [natgw]\n";
    let credential = |lines: &str| format!("{good}credential:\n{lines}");
    vec![
        credential(&format!("  accessKey: canary\n  accessSecret: [\"{SECRET}\"]\n")),
        credential(&format!("  accessKey: canary\n  accessSecret: \"{SECRET}\n")),
        credential(&format!("  accessKey: canary\n  accessSecret: \"{SECRET}\"\n  other: 1\n")),
        credential(&format!("  accessKey: canary\n  accessSecret: \"{SECRET}\"\n  accessSecret: \"{SECRET}\"\n")),
        credential(&format!("  accessKey: [canary]\n  accessSecret: \"{SECRET}\"\n bad: indent\n")),
        credential(&format!("  accessKey: canary\n  accessSecret: {{\"{SECRET}\": 1}}\n")),
        credential(&format!("  accessKey: canary\n  \"{SECRET}\": 1\n")),
        format!("{good}credential: \"{SECRET}\"\n"),
        credential(&format!("  accessKey: canary\n  accessSecret: \"{SECRET}\"\n")) + "unknown: 1\n",
    ]
}
