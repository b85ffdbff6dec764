//! What the screen shows of the demo: the consoles of both hosts and of the guest there, and how far the move is.

use std::time::Duration;
use testbench::scenario::{SOURCE, TARGET};

/// What a row is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Title,
    Console,
    Progress,
    Step,
}

/// A row of the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// Where the guest is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Nowhere,
    Source,
    Moving,
    Target,
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// CPU models of source and target.
    pub(super) models: [String; 2],
    /// Rows of the hosts' consoles.
    pub(super) hosts: [Vec<String>; 2],
    /// Rows of the guest's console on each host.
    pub(super) guests: [Vec<String>; 2],
    pub(super) place: Place,
    /// What the source said last about the move: `in round 3: 1.5 MiB left, ...`.
    pub(super) progress: Option<String>,
    pub(super) step: String,
    pub(super) elapsed: Duration,
}

/// Columns of a console on a screen of so many.
pub(super) fn pane_columns(columns: usize) -> usize {
    columns.saturating_sub(3) / 2
}

impl Picture {
    /// The screen, `columns` wide and `rows` high, of at least 40 by 12.
    pub(super) fn rows(&self, columns: usize, rows: usize) -> Vec<Row> {
        let pane = pane_columns(columns);
        let for_consoles = rows.saturating_sub(5);
        let hosts = for_consoles / 2;
        let guests = for_consoles - hosts;
        let mut screen = Vec::new();
        let mut row = |kind, text: String| screen.push(Row { kind, text });
        let titles = ["source", "target"].map(str::to_string);
        let title = |at: usize| format!("{}: {}", titles[at], self.models[at]);
        row(Kind::Title, beside(&title(SOURCE), &title(TARGET), pane));
        for (left, right) in tail(&self.hosts, hosts) {
            row(Kind::Console, beside(&left, &right, pane));
        }
        let guest = |here| if here { "guest's console: the guest runs here" } else { "guest's console" };
        let here = matches!(self.place, Place::Source | Place::Moving);
        let there = self.place == Place::Target;
        row(Kind::Title, beside(guest(here), guest(there), pane));
        for (left, right) in tail(&self.guests, guests) {
            row(Kind::Console, beside(&left, &right, pane));
        }
        row(Kind::Progress, fit(&self.bar(columns), columns));
        row(Kind::Progress, fit(self.progress.as_deref().unwrap_or_default(), columns));
        row(Kind::Step, fit(&format!("[{:6.1} s] {}", self.elapsed.as_secs_f64(), self.step), columns));
        screen
    }

    /// The guest's memory on its way.
    fn bar(&self, columns: usize) -> String {
        let width = columns.saturating_sub(22);
        let sent = match self.place {
            Place::Nowhere => return String::new(),
            Place::Source => 0,
            Place::Target => width,
            Place::Moving => (self.share_sent() * width as f64) as usize,
        };
        let arrow = if self.place == Place::Moving { "==>" } else { "   " };
        format!("source [{}{}] {arrow} target", "#".repeat(sent), ".".repeat(width.saturating_sub(sent)))
    }

    /// Share of the memory that the target has: what is left is what a line tells, of what the first line told.
    fn share_sent(&self) -> f64 {
        let Some(text) = &self.progress else { return 0.0 };
        match (mib(text, " MiB left"), mib(text, " MiB in all")) {
            (Some(left), Some(all)) if all > 0.0 => (1.0 - left / all).clamp(0.0, 1.0),
            _ => 0.0,
        }
    }
}

/// The number before a unit.
pub(super) fn mib(text: &str, unit: &str) -> Option<f64> {
    let (before, _) = text.split_once(unit)?;
    before.rsplit([' ', '(']).next()?.parse().ok()
}

/// The last `count` rows of both, filled up.
fn tail(both: &[Vec<String>; 2], count: usize) -> Vec<(String, String)> {
    let [left, right] = both;
    let from = |rows: &Vec<String>, at: usize| {
        let skipped = rows.len().saturating_sub(count);
        rows.get(skipped + at).cloned().unwrap_or_default()
    };
    (0..count).map(|at| (from(left, at), from(right, at))).collect()
}

fn beside(left: &str, right: &str, pane: usize) -> String {
    format!("{} | {}", fit(left, pane), fit(right, pane)).trim_end().to_string()
}

/// The text in exactly so many columns.
fn fit(text: &str, columns: usize) -> String {
    let cut: String = text.chars().take(columns).collect();
    format!("{cut:columns$}")
}

/// The rows as an ECMA-48 terminal draws them over what it shows.
pub(super) fn drawn(rows: &[Row]) -> String {
    let mut text = String::from("\x1b[H");
    for (at, row) in rows.iter().enumerate() {
        let (on, off) = match row.kind {
            Kind::Title => ("\x1b[7m", "\x1b[0m"),
            Kind::Progress | Kind::Step => ("\x1b[1m", "\x1b[0m"),
            Kind::Console => ("", ""),
        };
        let end = if at + 1 < rows.len() { "\r\n" } else { "" };
        text += &format!("{on}{}{off}\x1b[K{end}", row.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(place: Place, progress: &str) -> Picture {
        let lines = |name: &str| (0..30).map(|n| format!("{name} {n}")).collect();
        Picture {
            models: ["new".into(), "old".into()],
            hosts: [lines("a"), vec!["only".into()]],
            guests: [lines("g"), Vec::new()],
            place,
            progress: (!progress.is_empty()).then(|| progress.into()),
            step: "migrating".into(),
            elapsed: Duration::from_millis(12_340),
        }
    }

    #[test]
    fn both_consoles_and_the_move() {
        let rows = picture(Place::Moving, "in round 1: 64.0 MiB left of 256.0 MiB in all").rows(80, 15);
        assert_eq!(rows.len(), 15);
        assert!(rows.iter().all(|row| row.text.chars().count() <= 80));
        let texts: Vec<&str> = rows.iter().map(|row| row.text.trim_end()).collect();
        assert_eq!(texts[0], "source: new                            | target: old");
        assert_eq!(texts[1], "a 25                                   | only");
        assert_eq!(texts[5], "a 29                                   |");
        assert_eq!(
            texts[6],
            "guest's console: the guest runs here    | guest's console".replace("    |", "   |")
        );
        assert_eq!(texts[11], "g 29                                   |");
        let sent = texts[12].matches('#').count();
        assert_eq!((sent, texts[12].matches('.').count()), (43, 15), "{}", texts[12]);
        assert!(texts[14].starts_with("[  12.3 s] migrating"), "{}", texts[14]);
    }

    #[test]
    fn where_the_guest_is() {
        let bar = |place| picture(place, "").rows(60, 12)[9].text.clone();
        assert_eq!(bar(Place::Nowhere).trim(), "");
        assert!(!bar(Place::Source).contains('#'));
        assert!(!bar(Place::Target).contains('.'));
        let titles = picture(Place::Target, "").rows(100, 12);
        assert!(titles[4].text.ends_with("| guest's console: the guest runs here"), "{}", titles[4].text);
    }
}
