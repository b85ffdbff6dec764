//! HTTP/1.1 (RFC 9112) as far as firmware and loaders go: GET and HEAD of whole files, connections that stay open.

use super::shelf::{Offer, Shelf, Way};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

const PORT: u16 = 80;
/// Clients that are served at a time.
pub(super) const CLIENTS: usize = 6;
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
    after: After,
}

/// What follows a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum After {
    /// The next request.
    #[default]
    Request,
    /// The end of the connection.
    Close,
    /// Nothing.
    Silence,
}

impl Http {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let clients = (0..CLIENTS).map(|_| {
            let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
            Client { socket, request: Vec::new(), response: Vec::new(), sent: 0, after: After::Request }
        });
        Self { clients: clients.collect() }
    }

    pub(super) fn run(&mut self, sockets: &mut SocketSet<'static>, shelf: &Shelf) {
        for client in &mut self.clients {
            client.run(sockets.get_mut(client.socket), shelf);
        }
    }
}

impl Client {
    fn run(&mut self, socket: &mut tcp::Socket<'_>, shelf: &Shelf) {
        if socket.state() == tcp::State::TimeWait {
            socket.abort();
        }
        if !socket.is_open() {
            (self.request, self.response, self.sent, self.after) = Default::default();
            socket.set_nagle_enabled(false);
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
        if self.sent == self.response.len() && self.after == After::Request {
            let end = self.request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.request.drain(..end + 4).collect();
                (self.response, self.after) = respond(&String::from_utf8_lossy(&head), shelf);
                self.sent = 0;
            }
        }
        if let Some(rest) = self.response.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += socket.send_slice(rest).unwrap_or_default();
        }
        let done = self.sent == self.response.len();
        if done && (self.after == After::Close || socket.state() == tcp::State::CloseWait) {
            socket.close();
        }
    }
}

/// The whole response, and what comes after it.
fn respond(head: &str, shelf: &Shelf) -> (Vec<u8>, After) {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let last = lines.any(|line| line.eq_ignore_ascii_case("connection: close"));
    let path = target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let known = matches!(method, "GET" | "HEAD");
    let found = if known { shelf.ask("http", path.unwrap_or(target)) } else { None };
    let status = match &found {
        Some(_) => "200 OK",
        None if known => "404 Not Found",
        None => "501 Not Implemented",
    };
    let offer = found.unwrap_or_else(|| Offer::new(format!("{status}\n").into_bytes(), Way::Whole));
    let length = offer.size.map_or_else(String::new, |size| format!("Content-Length: {size}\r\n"));
    let kind = "Content-Type: application/octet-stream";
    let mut response = format!("HTTP/1.1 {status}\r\n{kind}\r\n{length}\r\n").into_bytes();
    let after = match method {
        "HEAD" if !last => After::Request,
        _ if offer.silent => After::Silence,
        _ if last || !offer.is_whole() => After::Close,
        _ => After::Request,
    };
    if method != "HEAD" {
        response.extend(offer.bytes);
    }
    (response, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered() {
        let shelf = Shelf::default();
        shelf.put("a", b"abc".to_vec(), Way::Whole);
        let ask = |head: &str| {
            let (bytes, after) = respond(head, &shelf);
            (String::from_utf8(bytes).unwrap(), after)
        };
        let (text, after) = ask("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            text.starts_with("HTTP/1.1 200 ")
                && text.ends_with("Length: 3\r\n\r\nabc")
                && after == After::Request,
            "{text}"
        );
        let (text, after) = ask("HEAD http://10.0.0.1/a HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(text.ends_with("Length: 3\r\n\r\n") && after == After::Close, "{text}");
        for (bad, status) in [("GET /../a HTTP/1.1", "404"), ("PUT /a HTTP/1.1", "501"), ("", "501")] {
            assert!(ask(bad).0.starts_with(&format!("HTTP/1.1 {status}")), "{bad}");
        }
    }
}
