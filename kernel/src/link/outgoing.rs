//! A link that this host asks for.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::net::SocketAddrV4;
use core::task::Poll;

use net::Connection;
use secure_link::{Initiator, Limit, LinkError, Security, Service, Session};

use super::stream::{Link, Tcp};
use crate::net as network;
use hw::arch::tsc;

/// How long the connection and its handshake may take, in milliseconds; connecting alone ends after 20 s.
const DIAL_MS: u64 = 30_000;

/// A link under way, until it is polled to its end or dropped.
pub(crate) struct Dial {
    connection: Connection,
    to: SocketAddrV4,
    initiator: Box<Initiator>,
    /// No answer has been given yet: the connection is this attempt's.
    under_way: bool,
}

impl Dial {
    pub(super) fn new(service: Service, to: SocketAddrV4, security: &Security) -> Result<Self, String> {
        let generator = super::keys::generator(security).map_err(|why| why.to_string())?;
        let limit = Limit { hz: tsc::hz(), ms: DIAL_MS };
        let initiator = Initiator::new(service, security, generator, limit, tsc::read())
            .map_err(|error| error.to_string())?;
        let connection = network::with_stack(|stack| stack.connect(*to.ip(), to.port()))
            .map_err(|error| error.to_string())?;
        Ok(Self { connection, to, initiator: Box::new(initiator), under_way: true })
    }

    /// Goes on; the answer is given once.
    ///
    /// # Errors
    /// Why there is no link, in words.
    pub(crate) fn poll(&mut self) -> Poll<Result<Link, String>> {
        let (connection, initiator) = (self.connection, &mut self.initiator);
        // What TCP knows is more than "cut".
        let state = network::with_stack(|stack| stack.connection_state(connection));
        let Poll::Ready(outcome) = initiator.poll(tsc::read(), &mut Tcp::new(connection)) else {
            return Poll::Pending;
        };
        self.under_way = false;
        Poll::Ready(match (outcome, state) {
            (Ok(session), _) => self.established(session),
            (Err(LinkError::Cut), Err(error)) => self.failed(error.to_string()),
            (Err(error), _) => self.failed(error.to_string()),
        })
    }

    fn established(&self, session: Session) -> Result<Link, String> {
        let link = Link::new(self.connection, session, self.to);
        match super::meet(&link) {
            Ok(()) => Ok(link),
            Err(why) => {
                link.close();
                Err(why)
            }
        }
    }

    fn failed(&self, why: String) -> Result<Link, String> {
        let _ = network::with_stack(|stack| stack.close(self.connection));
        Err(why)
    }
}

impl Drop for Dial {
    /// An attempt that nobody waits for any more is given up.
    fn drop(&mut self) {
        if self.under_way {
            let _ = network::with_stack(|stack| stack.abort(self.connection));
        }
    }
}
