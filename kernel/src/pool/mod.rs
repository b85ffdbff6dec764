//! The pool that this host forms with others: `crates/pool` bound to links, VMs, log and console.

mod status;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::task::Poll;

use cmdline::HostOptions;
use cpu_policy::HostPolicy;
use pool::{Change, Dial, Event, LinkId, Member, Pool, Status, Timing, TscMeans};
use shell::{EventKind, Output};

use crate::ended::Ended;
use crate::link::{self as links, Service};
use crate::lock::{self, Mutex};
use crate::{events, net, policy};
use hw::arch::tsc;
use hw::vmx::host;
use status::Changes;

/// Links that come in at the same time, at most; the network has so many connections less for migrations.
const MAX_INCOMING: usize = 16;
/// Timers are looked at this often, in microseconds.
const TICK_US: u64 = 20_000;

/// A link, or the attempt at one.
enum Wire {
    Dialing(links::Dial),
    Up(links::Link),
}

struct Membership {
    pool: Pool,
    changes: Changes,
    wires: Vec<(LinkId, Wire)>,
    next_tick: u64,
    /// How the console wants the answer, and whether it shows the pool at the end.
    errand: Option<(Output, bool)>,
    /// What it has brought, not printed yet.
    answer: String,
}

static SERVICE: Mutex<Option<Membership>> = Mutex::new(lock::POOL, None);

/// Begins as the boot line says. The host has links, and answers others, in no pool, too.
pub(crate) fn init(options: &HostOptions) {
    let now = tsc::micros();
    let own = match status::own(options) {
        Ok(own) => own,
        Err(why) => return log::error!(target: "pool", "off: {why}"),
    };
    let mut changes = Changes::new(options.migrate_port);
    let status = changes.read(now);
    match Pool::new(own, status, Timing::default()) {
        Err(why) => log::error!(target: "pool", "off: {why}"),
        Ok(mut pool) => {
            if let Some(name) = &options.pool {
                pool.enter(name, &options.peers, now);
            } else if !options.peers.is_empty() {
                log::warn!(target: "pool", "peers= without pool=: ignored");
            }
            let service = Membership {
                pool,
                changes,
                wires: Vec::new(),
                next_tick: now,
                errand: None,
                answer: String::new(),
            };
            *SERVICE.lock() = Some(service);
        }
    }
}

/// Looks at the pool.
///
/// # Errors
/// There is no network, or this host cannot be in a pool.
pub(crate) fn with<R>(f: impl FnOnce(&Pool) -> R) -> Result<R, String> {
    match &*SERVICE.lock() {
        Some(service) => Ok(f(&service.pool)),
        None => Err(missing()),
    }
}

/// Why there is no pool on this host.
fn missing() -> String {
    match host::required() {
        Ok(_) => net::missing(),
        Err(missing) => format!("a host without guests is no member of a pool: {missing}"),
    }
}

/// The same as [`with`], with what this host tells of itself as it is now.
///
/// # Errors
/// There is no network, or this host cannot be in a pool.
pub(crate) fn with_now<R>(f: impl FnOnce(&Pool) -> R) -> Result<R, String> {
    with_service(|service| {
        let status = service.changes.read(tsc::micros());
        service.update(status);
        Ok(f(&service.pool))
    })
}

/// Looks at a member, by its name or its address; none where there is no such member.
fn with_member<R>(name: &str, f: impl FnOnce(&Pool, &Member) -> R) -> Option<R> {
    let found = |pool: &Pool| {
        let known = pool.members().into_iter().find(|known| {
            known.name == name || known.address.is_some_and(|address| address.ip().to_string() == name)
        });
        known.map(|known| f(pool, known))
    };
    with(found).ok().flatten()
}

/// The CPU of a member.
pub(crate) fn cpu_of(member: &str) -> Option<HostPolicy> {
    with_member(member, |_, known| known.policy.clone())
}

/// Where another member takes links; none where it is not known, or has no network yet.
pub(crate) fn address_of(member: &str) -> Option<SocketAddrV4> {
    with_member(member, |_, known| known.address).flatten()
}

/// How a member, and this host, would give a guest a TSC of `hz`.
pub(crate) fn tsc_means(member: &str, hz: u64) -> Option<[TscMeans; 2]> {
    with_member(member, |pool, known| [known.tsc.means(hz), pool.own().tsc.means(hz)])
}

/// The other member that says that it has a VM, by its uuid. A lost member's last word holds until it is forgotten.
pub(crate) fn holder(uuid: &[u8; 16]) -> Option<String> {
    of_others(|member| member.has(uuid).then(|| member.name.clone())).into_iter().next()
}

/// The names of the other members.
pub(crate) fn others() -> Vec<String> {
    of_others(|member| Some(member.name.clone()))
}

/// Where the other members take links.
pub(crate) fn other_addresses() -> Vec<Ipv4Addr> {
    of_others(|member| member.address.map(|address| *address.ip()))
}

fn of_others<T>(what: impl Fn(&Member) -> Option<T>) -> Vec<T> {
    let look = |pool: &Pool| {
        let others = pool.members().into_iter().filter(|member| member.id != pool.own().id);
        others.filter_map(&what).collect()
    };
    with(look).unwrap_or_default()
}

/// The names of the other members as a text.
pub(crate) fn other_names() -> String {
    let names = others();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

/// The pool's name and its members, for a host that is about to make VMs.
pub(crate) fn is_forming() -> bool {
    with(|pool| pool.name().is_some() && !pool.is_formed()).unwrap_or(false)
}

/// Begins to ask a host, or to join its pool; the end comes from [`poll`].
///
/// # Errors
/// Why not, in words.
pub(crate) fn ask(to: SocketAddrV4, join: bool, output: Output) -> Result<(), String> {
    with_service(|service| {
        let now = tsc::micros();
        if join {
            service.pool.join(to, now)?;
        } else {
            service.pool.preview(to, now)?;
        }
        service.errand = Some((output, join));
        service.answer.clear();
        service.next_tick = now;
        Ok(())
    })
}

/// What there is to print for whoever asked, so far.
pub(crate) fn take_answer() -> String {
    with_service(|service| Ok(core::mem::take(&mut service.answer))).unwrap_or_default()
}

/// Leaves the pool.
///
/// # Errors
/// This host is in none.
pub(crate) fn leave() -> Result<(), String> {
    with_service(|service| {
        if service.pool.leave(tsc::micros()) { Ok(()) } else { Err("this host is in no pool".into()) }
    })
}

/// Has a lost member forgotten.
///
/// # Errors
/// Why not, in words.
pub(crate) fn forget(member: &str) -> Result<(), String> {
    with_service(|service| service.pool.forget(member))
}

fn with_service<R>(f: impl FnOnce(&mut Membership) -> Result<R, String>) -> Result<R, String> {
    match &mut *SERVICE.lock() {
        Some(service) => f(service),
        None => Err(missing()),
    }
}

/// Lets links and timers work. The answer is how what the console asked for ended, once. `hold`: a guest stands still,
/// and the pool hears later of what is new here, for to tell it takes as long as a short move.
pub(crate) fn poll(hold: bool) -> Option<Ended> {
    let mut service = SERVICE.lock();
    let service = service.as_mut()?;
    let now = tsc::micros();
    service.accept(now);
    service.poll_links(now);
    if now >= service.next_tick {
        service.next_tick = now + TICK_US;
        if !hold && let Some(status) = service.changes.due(now) {
            service.update(status);
        }
        while let Some(dial) = service.pool.poll(now) {
            service.dial(dial, now);
        }
    }
    let (mut ended, mut level) = (None, false);
    while let Some(event) = service.pool.next_event() {
        level |= matches!(
            event,
            Event::Members { .. } | Event::Entered { .. } | Event::Alone { .. } | Event::Impostor
        );
        ended = service.tell(event).or(ended);
    }
    if level {
        service.publish();
    }
    ended
}

impl Membership {
    fn update(&mut self, status: Status) {
        if let Err(why) = self.pool.update(status) {
            log::error!(target: "pool", "{why}");
        }
    }

    fn accept(&mut self, now: u64) {
        let places = MAX_INCOMING.saturating_sub(self.wires.len());
        links::offer(Service::Pool, Some(places));
        while let Some(link) = links::take(Service::Pool) {
            match self.pool.accepted(link.peer(), now) {
                Some(id) => self.wires.push((id, Wire::Up(link))),
                None => link.close(),
            }
        }
    }

    fn dial(&mut self, dial: Dial, now: u64) {
        match links::dial(Service::Pool, dial.to) {
            Ok(attempt) => self.wires.push((dial.link, Wire::Dialing(attempt))),
            Err(why) => self.pool.failed(dial.link, &why, now),
        }
    }

    fn poll_links(&mut self, now: u64) {
        for (id, wire) in core::mem::take(&mut self.wires) {
            match self.poll_link(id, wire, now) {
                Ok(Some(wire)) => self.wires.push((id, wire)),
                Ok(None) => {}
                Err(why) => {
                    log::debug!(target: "pool", "{why}");
                    self.pool.failed(id, &why, now);
                }
            }
        }
    }

    /// Works on one link; gives it back while it lasts.
    fn poll_link(&mut self, id: LinkId, wire: Wire, now: u64) -> Result<Option<Wire>, String> {
        let mut link = match wire {
            Wire::Up(link) => link,
            Wire::Dialing(mut attempt) => match attempt.poll() {
                Poll::Pending => return Ok(Some(Wire::Dialing(attempt))),
                Poll::Ready(link) => link?,
            },
        };
        let stays = link.poll(|bound| self.pool.poll_link(id, &mut Stream(bound), now));
        if stays {
            return Ok(Some(Wire::Up(link)));
        }
        link.close();
        Ok(None)
    }

    /// Says what happened, to the log or to the console that asked.
    fn tell(&mut self, event: Event) -> Option<Ended> {
        note(&event);
        match event {
            Event::Preview(preview) => {
                let text = &mut self.answer;
                // Writing to a String cannot fail.
                let _ = match self.errand {
                    Some((Output::Json, _)) => preview.write_json(text).and_then(|()| text.write_char('\n')),
                    _ => preview.write_text(text),
                };
                return None;
            }
            Event::ErrandDone => {
                if let Some((_, true)) = self.errand.take() {
                    // Writing to a String cannot fail.
                    let _ = self.pool.write_text(&mut self.answer);
                }
                return Some(Ended::Done);
            }
            Event::ErrandFailed { peer, why, refused } => {
                self.errand = None;
                let text = format!("{peer}: {why}");
                return Some(if refused { Ended::Refused(text) } else { Ended::Failed(text) });
            }
            Event::Lost(_) | Event::Refused { .. } | Event::Twice(_) => log::warn!(target: "pool", "{event}"),
            Event::Impostor => log::error!(target: "pool", "{event}"),
            _ => log::info!(target: "pool", "{event}"),
        }
        None
    }

    /// Hands the level to what makes VMs.
    fn publish(&self) {
        policy::set_pool_baseline(self.pool.name().map(|_| self.pool.level().clone()));
    }
}

/// What others than the log follow of it.
fn note(event: &Event) {
    let (kind, subject, detail) = match event {
        Event::Members { host, change: Change::Joined, .. } => (EventKind::MemberJoined, host, ""),
        Event::Members { host, change: Change::Left, .. } => (EventKind::MemberLeft, host, ""),
        Event::Members { host, change: Change::Forgotten, .. } => (EventKind::MemberLeft, host, "forgotten"),
        Event::Lost(host) => (EventKind::MemberLost, host, ""),
        Event::Back(host) => (EventKind::MemberBack, host, ""),
        Event::Refused { peer, why } => (EventKind::LinkRefused, peer, why.as_str()),
        _ => return,
    };
    events::tell(kind, subject.as_str(), detail);
}

/// An established link as the pool sees it.
struct Stream<'a, 'b>(&'a mut links::Bound<'b>);

impl pool::Link for Stream<'_, '_> {
    fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.0.recv(buf)
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.0.send(data)
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }
}
