//! What an operator leaves running, and what does not fit the screen: the wall clock in the log, events, who is connected,
//! `watch`, and output a screen at a time.

use super::verbs::{VM, done, json, refused, spec};
use super::{Case, Context, start};
use crate::host::Host;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const CTRL_C: &[u8] = &[3];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("verbs/follow", 240, follow), Case::new("verbs/pager", 240, pager)]
}

/// Waits for the line that ends a command; what was rubbed out before it stands there still.
fn ends(host: &mut Host) -> Result<()> {
    host.console()?.expect_line("the end", PATIENCE, |line| line.ends_with("ok").then_some(()))
}

fn follow(context: &Context) -> Result<()> {
    let mut host = start(context, &spec("")?)?;
    host.wait_ready(PATIENCE)?;
    host.guest()?.expect("power-button: frames *ready", PATIENCE)?;

    // The log by the wall clock: in UTC where asked for, in JSON always.
    let runs = format!(" UTC vm: vm {VM}: running");
    let utc = |lines: &[String]| lines.iter().any(|line| line.starts_with("20") && line.ends_with(&runs));
    let log = done(&mut host, "dmesg --utc")?;
    ensure!(utc(&log), "{log:?}");
    let log = done(&mut host, &format!("vm log {VM} --utc"))?;
    ensure!(utc(&log), "{log:?}");
    let log = json(&mut host, "dmesg")?;
    let unix = |line: &Value| line["unix_us"].as_u64().zip(line["us"].as_u64());
    let starts: Vec<_> = log.as_array().context("no list")?.iter().filter_map(unix).collect();
    ensure!(starts.iter().all(|(unix, us)| unix - us == starts[0].0 - starts[0].1), "{log}");
    ensure!(starts[0].0 > 1_500_000_000_000_000, "no wall clock: {log}");
    refused(&mut host, "dmesg --previous --utc", "unsupported ")?;

    // Events: what has happened, and what comes.
    done(&mut host, &format!("vm pause {VM}"))?;
    done(&mut host, &format!("vm resume {VM}"))?;
    done(&mut host, &format!("vm rename {VM} other"))?;
    done(&mut host, &format!("vm rename other {VM}"))?;
    let told = [
        format!("vm-made {VM}: 32 MiB, level "),
        format!("vm-running {VM}"),
        format!("vm-paused {VM}"),
        format!("vm-running {VM}"),
        format!("vm-renamed other: was {VM}"),
        format!("vm-renamed {VM}: was other"),
    ];
    let events = done(&mut host, "events")?;
    ensure!(events.len() == told.len(), "{events:?}");
    for (event, told) in events.iter().zip(&told) {
        let text = event.strip_prefix('[').and_then(|line| line.split_once("] ")).map(|(_, text)| text);
        ensure!(text.is_some_and(|text| text.starts_with(told.as_str())), "{event}: not {told}");
    }
    let documents = done(&mut host, "events --json")?;
    ensure!(documents.len() == told.len(), "{documents:?}");
    for document in &documents {
        let event: Value = serde_json::from_str(document).with_context(|| document.clone())?;
        let keys: Vec<_> = event.as_object().context("no object")?.keys().map(String::as_str).collect();
        ensure!(keys == ["detail", "event", "subject", "unix_us", "us"], "{event}");
    }
    host.console()?.send_line("events -f --utc")?;
    host.console()?.expect(&format!(" UTC vm-renamed {VM}: was other"), PATIENCE)?;
    host.console()?.send(CTRL_C)?;
    ends(&mut host)?;

    // Who is connected: this port, and what it does.
    for command in ["sessions", "who"] {
        let who = json(&mut host, command)?;
        let ports = who.as_array().context("no list")?;
        let here = ports.iter().find(|row| row["peer"] == "COM1").with_context(|| who.to_string())?;
        ensure!(here["kind"] == "console" && here["doing"] == format!("{command} --json"), "{who}");
    }
    let text = done(&mut host, "sessions")?;
    ensure!(text.iter().any(|l| l.starts_with("console  COM1  ") && l.ends_with("  sessions")), "{text:?}");

    // Again and again, until a key that nobody else gets.
    host.console()?.send_line("watch vm list")?;
    for _ in 0..2 {
        host.console()?.expect("vm list: any key ends this; 20", PATIENCE)?;
        host.console()?.expect(&format!("{VM} "), PATIENCE)?;
    }
    host.console()?.send(b"x")?;
    ends(&mut host)?;
    // As often as is said, by the times that it prints.
    host.console()?.send_line("watch -n 5 uptime")?;
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let time = "uptime: any key ends this; ";
        seconds.push(host.console()?.expect_line(time, PATIENCE, |line| {
            let clock = line.strip_prefix(time)?.split([' ', ':', '.']).skip(1).take(3);
            clock.map(|part| part.parse::<u64>().ok()).try_fold(0, |sum, part| Some(sum * 60 + part?))
        })?);
    }
    host.console()?.send(b"x")?;
    ends(&mut host)?;
    let apart = |pair: &[u64]| (pair[1] + 86_400 - pair[0]) % 86_400;
    ensure!(seconds.windows(2).all(|pair| (5..=6).contains(&apart(pair))), "{seconds:?}");
    host.console()?.send_line("watch -n 1 vm list --json")?;
    for _ in 0..2 {
        host.console()?.expect("[{\"name\":\"guest\"", PATIENCE)?;
    }
    host.console()?.send(CTRL_C)?;
    ends(&mut host)?;
    refused(&mut host, &format!("watch vm pause {VM}"), "usage ")?;
    refused(&mut host, "watch vm show nobody", "not-found ")?;
    ensure!(json(&mut host, "vm list")?[0]["state"] == "running", "what was watched changed something");
    Ok(())
}

fn pager(context: &Context) -> Result<()> {
    let mut host = start(context, &spec("")?)?;
    host.wait_ready(PATIENCE)?;
    // Nothing stops while nobody has said how long the screen is.
    let all = done(&mut host, "help")?;
    ensure!(all.len() > 30 && !all.iter().any(|line| line.contains("--more--")), "{all:?}");
    done(&mut host, "term rows=10")?;
    host.console()?.send_line("help")?;
    host.console()?.expect(all[8].as_str(), PATIENCE)?;
    host.console()?.expect("--more--", PATIENCE)?;
    host.console()?.send(b" ")?;
    host.console()?.expect(all[17].as_str(), PATIENCE)?;
    host.console()?.expect("--more--", PATIENCE)?;
    host.console()?.send(b"\r")?;
    host.console()?.expect(all[18].as_str(), PATIENCE)?;
    host.console()?.expect("--more--", PATIENCE)?;
    host.console()?.send(b"q")?;
    ends(&mut host)?;
    // An answer that comes step by step is held, too, and left by Ctrl-C.
    host.console()?.send_line("dmesg")?;
    host.console()?.expect("--more--", PATIENCE)?;
    host.console()?.send(CTRL_C)?;
    ends(&mut host)?;
    // What fits is not held up, and `watch` never.
    ensure!(done(&mut host, "vm list")?.len() == 2, "vm list");
    host.console()?.send_line("watch help vm")?;
    for _ in 0..2 {
        host.console()?.expect("help vm: any key ends this; 20", PATIENCE)?;
    }
    host.console()?.send(b"x")?;
    ends(&mut host)?;
    done(&mut host, "term rows=0")?;
    ensure!(done(&mut host, "help")? == all, "help is another one");
    Ok(())
}
