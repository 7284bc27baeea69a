//! Just enough of HTTP/1.1 for operators' tools: GET and HEAD, keep-alive, bounded heads, no bodies.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

use crate::runtime::timeout;

/// Larger request heads are refused.
const HEAD_BYTES_MAX: usize = 8192;
/// A client that neither sends nor takes anything for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Without the query.
    pub path: String,
    /// After the question mark; empty if there is none.
    pub query: String,
    head_only: bool,
    keep_alive: bool,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200, 404 …
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The content.
    pub body: String,
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// JSON.
    pub fn json(body: &serde_json::Value) -> Self {
        Response { status: 200, content_type: "application/json", body: format!("{body}\n") }
    }
}

/// Serves one connection.
pub async fn serve<F: Future<Output = Response>>(mut stream: TcpStream, answer: impl Fn(Request) -> F) {
    let mut received = Vec::new();
    loop {
        let head_length = loop {
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if received.len() > HEAD_BYTES_MAX {
                let refusal = Response::text(431, "The request head is too large.\n");
                let _ = timeout(PATIENCE, stream.write_all(&encode(&refusal, false, false))).await;
                return;
            }
            let mut chunk = [0; 1024];
            match timeout(PATIENCE, stream.read(&mut chunk)).await {
                Some(Ok(length)) if length > 0 => received.extend_from_slice(&chunk[..length]),
                _ => return,
            }
        };
        let head: Vec<u8> = received.drain(..head_length).collect();
        let (response, head_only, keep_alive) = match parse(&head) {
            Ok(request) => {
                let (head_only, keep_alive) = (request.head_only, request.keep_alive);
                (answer(request).await, head_only, keep_alive)
            }
            Err(refusal) => (refusal, false, false),
        };
        match timeout(PATIENCE, stream.write_all(&encode(&response, head_only, keep_alive))).await {
            Some(Ok(())) if keep_alive => {}
            _ => return,
        }
    }
}

fn parse(head: &[u8]) -> Result<Request, Response> {
    let bad = || Response::text(400, "This is not an HTTP request.\n");
    let head = std::str::from_utf8(head).map_err(|_| bad())?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    if !target.starts_with('/') || !version.starts_with("HTTP/1.") {
        return Err(bad());
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Response::text(405, "Only GET and HEAD are served here.\n")),
    };
    let header = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_ascii_lowercase())
        })
    };
    if header("content-length").is_some_and(|length| length != "0") || header("transfer-encoding").is_some() {
        return Err(Response::text(413, "Requests with a body are not served here.\n"));
    }
    let connection = header("connection").unwrap_or_default();
    let keep_alive = if version == "HTTP/1.0" { connection == "keep-alive" } else { connection != "close" };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request { path: path.to_owned(), query: query.to_owned(), head_only, keep_alive })
}

fn encode(response: &Response, head_only: bool, keep_alive: bool) -> Vec<u8> {
    let reason = match response.status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let mut text = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: {}\r\n\r\n",
        response.status,
        response.content_type,
        response.body.len(),
        if keep_alive { "keep-alive" } else { "close" },
    );
    if !head_only {
        text.push_str(&response.body);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_common_tools_are_understood() {
        let request =
            parse(b"GET /metrics?name=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("valid");
        assert_eq!(
            (request.path.as_str(), request.query.as_str(), request.keep_alive),
            ("/metrics", "name=x", false)
        );
        assert!(parse(b"HEAD / HTTP/1.1\r\n\r\n").expect("valid").keep_alive);
        assert!(!parse(b"GET / HTTP/1.0\r\n\r\n").expect("valid").keep_alive);
    }

    #[test]
    fn everything_else_is_refused_with_a_status() {
        let status = |head: &[u8]| parse(head).expect_err("refused").status;
        assert_eq!(status(b"\xff\xfe\r\n\r\n"), 400);
        assert_eq!(status(b"GET http://other/ HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"DELETE / HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status(b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), 413);
    }
}
