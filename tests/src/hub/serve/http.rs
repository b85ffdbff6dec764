//! HTTP/1.1 (RFC 9112) as far as firmware and loaders go: GET and HEAD of whole files, connections that stay open.

use super::{Folder, Log};
use anyhow::Result;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

const PORT: u16 = 80;
/// Clients that are served at a time.
const CLIENTS: usize = 6;
const BUFFER: usize = 64 << 10;
/// No request is longer.
const MAX_REQUEST: usize = 8 << 10;

pub(super) struct Http {
    clients: Vec<Client>,
}

struct Client {
    socket: SocketHandle,
    request: Vec<u8>,
    response: Vec<u8>,
    sent: usize,
    last: bool,
}

impl Http {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Result<Self> {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let clients = (0..CLIENTS).map(|_| {
            let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
            Client { socket, request: Vec::new(), response: Vec::new(), sent: 0, last: false }
        });
        Ok(Self { clients: clients.collect() })
    }

    pub(super) fn run(&mut self, sockets: &mut SocketSet<'static>, folder: &Folder, log: &Log) {
        for client in &mut self.clients {
            client.run(sockets.get_mut(client.socket), folder, log);
        }
    }
}

impl Client {
    fn run(&mut self, socket: &mut tcp::Socket<'_>, folder: &Folder, log: &Log) {
        if !socket.is_open() {
            (self.request, self.response, self.sent, self.last) = Default::default();
            let _ = socket.listen(PORT);
            return;
        }
        if !socket.is_active() {
            return;
        }
        while socket.can_recv() {
            let taken = socket.recv(|data| (data.len(), data.to_vec()));
            self.request.extend(taken.unwrap_or_default());
        }
        if self.request.len() > MAX_REQUEST {
            socket.abort();
            return;
        }
        if self.sent == self.response.len() && !self.last {
            let end = self.request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.request.drain(..end + 4).collect();
                (self.response, self.last) = respond(&String::from_utf8_lossy(&head), folder, log);
                self.sent = 0;
            }
        }
        if let Some(rest) = self.response.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += socket.send_slice(rest).unwrap_or_default();
        }
        let done = self.sent == self.response.len();
        if done && (self.last || socket.state() == tcp::State::CloseWait) {
            socket.close();
        }
    }
}

/// The whole response, and whether it is the last on its connection.
fn respond(head: &str, folder: &Folder, log: &Log) -> (Vec<u8>, bool) {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let last = lines.any(|line| line.eq_ignore_ascii_case("connection: close"));
    let path = target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let path = path.unwrap_or(target);
    let found = if matches!(method, "GET" | "HEAD") { folder.read(path) } else { None };
    let missing = if found.is_none() { " (none)" } else { "" };
    log.say(format!("http {}{missing}", path.trim_start_matches('/')));
    let status = match (&found, method) {
        (Some(_), _) => "200 OK",
        (None, "GET" | "HEAD") => "404 Not Found",
        (None, _) => "501 Not Implemented",
    };
    let body = found.unwrap_or_else(|| format!("{status}\n").into_bytes());
    let kind = "Content-Type: application/octet-stream";
    let mut response =
        format!("HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    if method != "HEAD" {
        response.extend(body);
    }
    (response, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered() {
        let dir = std::env::temp_dir().join(format!("http-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a"), b"abc").unwrap();
        let (folder, log) = (Folder(dir.clone()), Log::default());
        let ask = |head: &str| {
            let (bytes, last) = respond(head, &folder, &log);
            (String::from_utf8(bytes).unwrap(), last)
        };
        let (text, last) = ask("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.ends_with("Length: 3\r\n\r\nabc") && !last,
            "{text}"
        );
        let (text, last) = ask("HEAD http://10.0.0.1/a HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(text.ends_with("Length: 3\r\n\r\n") && last, "{text}");
        for (bad, status) in [("GET /../a HTTP/1.1", "404"), ("PUT /a HTTP/1.1", "501"), ("", "501")] {
            assert!(ask(bad).0.starts_with(&format!("HTTP/1.1 {status}")), "{bad}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
