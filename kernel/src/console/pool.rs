//! `pool` and what it does.

use alloc::format;
use alloc::string::{String, ToString};
use cmdline::Secret;
use core::fmt::{self, Write};
use shell::{Align, Code, Failure, Output, PoolCommand, Table};

use super::answer::{Done, Job};
use super::out::Out;
use crate::{link, pool};

pub(super) fn execute(command: PoolCommand<'_>, output: Output, out: &mut Out<'_>) -> Result<Done, Failure> {
    let state = |why: String| Failure::new(Code::State, why);
    match command {
        PoolCommand::Show => {
            let shown = pool::with_now(|pool| match output {
                Output::Text => pool.write_text(out),
                Output::Json => pool.write_json(out).and_then(|()| out.write_char('\n')),
            });
            // The console cannot fail.
            shown.map(|_| Done::Now).map_err(state)
        }
        PoolCommand::Join(host) => {
            pool::ask(host, true, output).map(|()| Done::Later(Job::Pool)).map_err(state)
        }
        PoolCommand::Preview(host) => {
            pool::ask(host, false, output).map(|()| Done::Later(Job::Pool)).map_err(state)
        }
        PoolCommand::Leave => pool::leave().map(|()| Done::Now).map_err(state),
        PoolCommand::ForgetMember(name) => pool::forget(name).map(|()| Done::Now).map_err(state),
        PoolCommand::Key(key) => {
            // The parser has let 64 hexadecimal digits pass, and nothing else.
            let key = Secret::from_hex(key).ok_or_else(|| Failure::new(Code::Usage, "not a key"))?;
            link::set_key(&key).map(|()| Done::Now).map_err(state)
        }
        PoolCommand::Keys => {
            let _ = keys(output, out);
            Ok(Done::Now)
        }
        PoolCommand::Forget(host) if link::forget(*host.ip()) => Ok(Done::Now),
        PoolCommand::Forget(host) => {
            let text = format!("no key of {} is pinned", host.ip());
            Err(Failure::new(Code::NotFound, text))
        }
    }
}

/// This host's key and those of the others, as first seen.
fn keys(output: Output, out: &mut dyn Write) -> fmt::Result {
    let (own, pins) = link::keys();
    if output == Output::Json {
        json::object(out, |o| {
            o.field("here", own.map(json::Shown))?;
            o.array("hosts", |a| {
                pins.iter().try_for_each(|pin| {
                    a.object(|o| {
                        o.field("host", json::Shown(pin.host))?;
                        o.field("key", json::Shown(pin.key))?;
                        o.field("since_us", pin.since_us)
                    })
                })
            })
        })?;
        return out.write_char('\n');
    }
    let mut table = Table::new(["host", "key", "first seen"].map(|name| (name, Align::Left)));
    if let Some(key) = own {
        table.row(["here".to_string(), key.to_string(), String::new()]);
    }
    for pin in pins {
        let since = format!("{} s after the start", pin.since_us / 1_000_000);
        table.row([pin.host.to_string(), pin.key.to_string(), since]);
    }
    write!(out, "{table}")
}
