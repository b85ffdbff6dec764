//! `net`.

use ::net::{PingStatus, Search};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use core::fmt::Write;
use core::net::Ipv4Addr;
use core::task::Poll;
use shell::{Code, Failure, Millis, Output};

use super::answer::{Done, Job, Task};
use super::out::{Out, json_line};
use crate::migration::Migrations;
use crate::net;
use hw::arch::tsc;

/// Echo requests of one `net ping`, and how long each may take, in microseconds.
const REQUESTS: u32 = 4;
const PATIENCE_US: u64 = 1_000_000;

pub(super) fn show(output: Output, out: &mut Out<'_>) {
    let card = net::card();
    if output == Output::Json {
        return json_line(out, |o| {
            o.field("present", card.is_some())?;
            o.field("card", card.as_ref().map(|card| card.place.as_str()))?;
            o.field("mac", card.as_ref().map(|card| card.mac.as_str()))?;
            o.field("up", card.as_ref().map(|card| card.up))?;
            o.field("link", card.as_ref().map(|card| card.link.as_str()))?;
            o.field("address", card.as_ref().and_then(|card| card.address.as_deref()))
        });
    }
    let _ = match card {
        None => writeln!(out, "no network"),
        Some(card) => {
            let address = card.address.as_deref().unwrap_or("none yet (dhcp)");
            writeln!(
                out,
                "card      {}\nmac       {}\nlink      {}\naddress   {address}",
                card.place, card.mac, card.link
            )
        }
    };
}

pub(super) fn stats(output: Output, out: &mut Out<'_>) {
    let counters = net::counters();
    let rows = counters.map(|c| c.rows()).unwrap_or_default();
    if output == Output::Json {
        return json_line(out, |o| {
            rows.iter().try_for_each(|(name, value)| o.field(name, *value))?;
            let busy = rows.iter().find(|(name, _)| *name == net::BUSY);
            busy.map_or(Ok(()), |(_, ticks)| o.field("busy_us", tsc::ns(*ticks) / 1000))
        });
    }
    if rows.is_empty() {
        let _ = writeln!(out, "no network");
    }
    for (name, value) in rows {
        let _ = match name {
            net::BUSY => writeln!(out, "{name:<16}{value} ({})", Millis(tsc::ns(value) / 1000)),
            _ => writeln!(out, "{name:<16}{value}"),
        };
    }
}

pub(super) fn ping(to: Ipv4Addr) -> Result<Done, Failure> {
    let search = net::with_stack(|stack| Ok(stack.search(to)))
        .map_err(|error| Failure::new(Code::Failed, format!("ping {to}: {error}")))?;
    let mut ping = Ping { to, search, sent: 0, answered: 0, next_us: 0, waits: false, interrupted: false };
    ping.send()?;
    Ok(Done::Later(Job::Task(Box::new(ping))))
}

struct Ping {
    to: Ipv4Addr,
    search: Search,
    sent: u32,
    answered: u32,
    /// When the next one is due, in microseconds.
    next_us: u64,
    waits: bool,
    interrupted: bool,
}

impl Ping {
    fn send(&mut self) -> Result<(), Failure> {
        let now = tsc::micros();
        net::with_stack(|stack| stack.ping(self.to, PATIENCE_US, now))
            .map_err(|error| Failure::new(Code::Failed, format!("ping {}: {error}", self.to)))?;
        self.sent += 1;
        self.waits = true;
        self.next_us = now + PATIENCE_US;
        Ok(())
    }

    fn summary(&self) -> Result<(), Failure> {
        if self.answered > 0 {
            return Ok(());
        }
        let nobody = net::with_stack(|stack| Ok(stack.unanswered(self.search)));
        let text = match nobody {
            Ok(Some(error)) => error.to_string(),
            _ => format!("{} does not answer ({} requests)", self.to, self.sent),
        };
        Err(Failure::new(Code::Failed, text))
    }
}

impl Task for Ping {
    fn poll(&mut self, _: &mut Migrations, out: &mut Out<'_>) -> Poll<Result<(), Failure>> {
        let now = tsc::micros();
        if self.waits {
            let status = net::with_stack(|stack| Ok(stack.ping_status(now)));
            match status {
                Ok(PingStatus::Waiting) if !self.interrupted => return Poll::Pending,
                Ok(PingStatus::Reply(us)) => {
                    self.answered += 1;
                    let _ = writeln!(out, "{}: answer {} after {}", self.to, self.sent, Millis(us));
                }
                Ok(_) => {
                    let _ = writeln!(out, "{}: no answer to request {}", self.to, self.sent);
                }
                Err(error) => {
                    let text = format!("ping {}: {error}", self.to);
                    return Poll::Ready(Err(Failure::new(Code::Failed, text)));
                }
            }
            self.waits = false;
        }
        if self.interrupted || self.sent == REQUESTS {
            return Poll::Ready(self.summary());
        }
        if now < self.next_us {
            return Poll::Pending;
        }
        match self.send() {
            Ok(()) => Poll::Pending,
            Err(failure) => Poll::Ready(Err(failure)),
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }
}
