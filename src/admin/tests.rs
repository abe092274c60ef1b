use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::server::{is_this_host, names_this_host};
use super::*;
use crate::machine::identity::PodUid;

/// A server, and a controller's thread that answers until the test drops it.
struct Room {
    published: Published,
    server: Server,
    answering: tokio::task::JoinHandle<()>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Rows of three pods in two pieces, and no allocation.
fn piece_after(cursor: Option<Cursor>) -> Piece {
    let section = |name, rows: &[&str]| Section { name, rows: rows.iter().map(|row| (*row).to_owned()).collect() };
    match cursor {
        None => Piece {
            sections: vec![section("controller", &["{\"event\":7}"]), section("pods", &[])],
            next: Some(Cursor::Pods(None)),
        },
        Some(Cursor::Pods(None)) => {
            Piece { sections: vec![section("pods", &["1", "2"])], next: Some(Cursor::Pods(Some(PodUid::from("2")))) }
        }
        Some(Cursor::Pods(Some(_))) => {
            Piece { sections: vec![section("pods", &["3"])], next: Some(Cursor::Allocations(None)) }
        }
        Some(Cursor::Allocations(_)) => Piece { sections: vec![section("allocations", &[])], next: None },
    }
}

fn room() -> Room {
    let published = Published::new();
    let server = Server::bind(address(), published.clone()).unwrap();
    let asks = published.clone();
    let answering = tokio::spawn(async move {
        loop {
            asks.asked().await;
            for ask in asks.asks() {
                match ask {
                    Ask::Metrics(reply) => drop(reply.send(Box::new(|| "numbers\n".to_owned()))),
                    Ask::State(cursor, reply) => drop(reply.send(piece_after(cursor))),
                }
            }
        }
    });
    Room { published, server, answering }
}

/// One request over a socket: the status, and the body with the chunks put together.
async fn request(address: SocketAddr, method: &str, path: &str, host: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = tokio::task::spawn_blocking(exchange).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    (status, if chunked { together(body) } else { body.to_owned() })
}

/// A body that breaks off has no last chunk: then this says so.
fn together(mut body: &str) -> String {
    let mut text = String::new();
    loop {
        let Some((length, rest)) = body.split_once("\r\n") else { return format!("{text}<broken off>") };
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return text;
        }
        text.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
}

impl Room {
    async fn get(&self, path: &str) -> (u16, String) {
        request(self.server.address(), "GET", path, "localhost").await
    }
}

#[tokio::test]
async fn how_it_stands_is_told_from_the_beginning() {
    let room = room();
    assert_eq!(room.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(room.get("/readyz").await.0, 503);
    assert_eq!(room.get("/leader").await, (503, "{\"leads\":false,\"term\":0}\n".to_owned()));
    room.published.turned(false, 3);
    assert_eq!(room.get("/readyz").await, (200, "ok\n".to_owned()), "a standby is ready");
    room.published.turned(true, 4);
    assert_eq!(room.get("/leader").await, (200, "{\"leads\":true,\"term\":4}\n".to_owned()));
    room.published.object(Some("no API server".to_owned()));
    assert_eq!(room.get("/readyz").await, (503, "no API server\n".to_owned()));
    room.published.object(None);
    assert_eq!(room.get("/readyz").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_does_not_turn_is_neither_healthy_nor_ready() {
    let published = Published::new();
    assert_eq!(published.illness(), None, "the journal may take its time");
    published.turned(true, 1);
    tokio::time::advance(std::time::Duration::from_secs(120)).await;
    assert_eq!(published.illness(), None);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(published.illness().as_deref(), Some("the loop did not turn for 121 s"));
    assert_eq!(published.unreadiness(), published.illness());
    published.turned(true, 1);
    assert_eq!(published.unreadiness(), None);
}

#[tokio::test]
async fn the_numbers_come_from_whoever_answers_and_are_missed_where_nobody_does() {
    let room = room();
    assert_eq!(room.get("/metrics").await, (200, "numbers\n".to_owned()));
    room.answering.abort();
    let asks = room.published.clone();
    let dropping = tokio::spawn(async move {
        asks.asked().await;
        drop(asks.asks());
    });
    let (status, reason) = room.get("/metrics").await;
    dropping.await.unwrap();
    assert_eq!((status, reason.starts_with("NATGW-ADMIN-UNANSWERED: ")), (503, true));
}

#[tokio::test]
async fn too_many_questions_are_turned_away() {
    let published = Published::new();
    let (mut refused, mut answers) = (0, Vec::new());
    for _ in 0..20 {
        let (reply, answer) = tokio::sync::oneshot::channel();
        refused += usize::from(published.ask(Ask::Metrics(reply)).is_err());
        answers.push(answer);
    }
    assert_eq!((refused, published.asks().len(), published.asks().len()), (4, 16, 0));
}

#[tokio::test]
async fn the_state_is_one_document_however_many_pieces_it_has() {
    let room = room();
    let (status, text) = room.get("/state").await;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(document, serde_json::json!({"controller": [{"event": 7}], "pods": [1, 2, 3], "allocations": []}));
}

#[tokio::test]
async fn a_state_that_nobody_ends_breaks_off() {
    let room = room();
    room.answering.abort();
    let asks = room.published.clone();
    let (read, was_read) = tokio::sync::oneshot::channel();
    let first_only = tokio::spawn(async move {
        if let Ask::State(_, reply) = next_ask(&asks).await {
            reply.send(piece_after(None)).unwrap();
        }
        // What ends before anything left is an empty answer.
        was_read.await.unwrap();
        drop(next_ask(&asks).await);
    });
    let address = room.server.address();
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        while text.split_once("\r\n\r\n").is_none_or(|(_, body)| body.is_empty()) {
            let mut some = [0; 1_024];
            let taken = stream.read(&mut some).unwrap();
            assert!(taken > 0, "{text}");
            text.push_str(std::str::from_utf8(&some[..taken]).unwrap());
        }
        read.send(()).unwrap();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = tokio::task::spawn_blocking(exchange).await.unwrap();
    first_only.await.unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(together(body).ends_with("<broken off>"), "{text}");
}

async fn next_ask(asks: &Published) -> Ask {
    loop {
        asks.asked().await;
        if let Some(ask) = asks.asks().pop() {
            return ask;
        }
    }
}

/// What writes an export.
type Writes = fn(&mut dyn std::io::Write) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn exports(room: &Room, export: Writes) {
    room.published.serve_journal(move || {
        let (reply, pending) = tokio::sync::oneshot::channel::<Export>();
        reply.send(Box::new(export)).ok();
        pending
    });
}

#[tokio::test]
async fn the_journal_is_streamed_and_a_failing_export_breaks_off() {
    let whole = room();
    assert_eq!(whole.get("/journal").await.0, 503, "there is none yet");
    exports(&whole, |out| {
        for _ in 0..1_000 {
            out.write_all(&[b'x'; 1_000])?;
        }
        Ok(())
    });
    let (status, text) = whole.get("/journal").await;
    assert_eq!((status, text.len()), (200, 1_000_000));
    let broken = room();
    exports(&broken, |out| {
        out.write_all(b"some")?;
        Err("damaged".into())
    });
    let (_, text) = broken.get("/journal").await;
    assert!(text.ends_with("<broken off>"), "{text}");
}

#[tokio::test]
async fn what_is_for_this_host_is_for_nobody_else_and_nothing_can_be_changed() {
    let room = room();
    for path in ["/state", "/journal"] {
        let (status, reason) = request(room.server.address(), "GET", path, "natgw.example.com:8080").await;
        assert_eq!((status, reason.starts_with("NATGW-ADMIN-LOOPBACK: ")), (403, true), "{path}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/healthz", "/readyz", "/leader", "/metrics", "/state", "/journal"] {
            let (status, _) = request(room.server.address(), method, path, "localhost").await;
            assert_eq!(status, 405, "{method} {path}");
        }
    }
    assert_eq!(room.get("/").await.0, 404);
}

#[test]
fn this_host_is_two_addresses_and_three_names() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    for (address, ours) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("127.0.0.6", false),
        ("10.0.0.1", false),
        ("::2", false),
    ] {
        assert_eq!(is_this_host(ip(address)), ours, "{address}");
    }
    for (host, ours) in [
        ("localhost", true),
        ("LOCALHOST:8080", true),
        ("127.0.0.1:8080", true),
        ("[::1]", true),
        ("[::1]:8080", true),
        ("localhost.example.com", false),
        ("example.com:8080", false),
        ("127.0.0.1.nip.io", false),
        ("", false),
    ] {
        assert_eq!(names_this_host(host), ours, "{host}");
    }
}

#[test]
fn an_address_in_use_is_told() {
    let server = Server::bind(address(), Published::new()).unwrap();
    let error = Server::bind(server.address(), Published::new()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("NATGW-ADMIN: {} cannot be listened on", server.address())),
        "{error}"
    );
}
