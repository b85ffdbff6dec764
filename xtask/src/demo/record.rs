//! What the screen showed, in a file: an asciicast (version 2) or an SVG that plays by itself.

use super::picture::{Kind, Row, drawn};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most pictures of an SVG.
const PICTURES: usize = 30;
/// For how long the last one stays.
const LAST: f64 = 6.0;
/// For how long an SVG plays, whatever the run took, in seconds.
const PLAYS: f64 = 30.0;
/// Pixels of a character.
const CELL: (f64, f64) = (6.6, 14.0);

/// The argument: a name that says which form.
pub(super) fn file(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("cast" | "svg") => Ok(path),
        _ => Err("ends in neither .cast nor .svg".to_string()),
    }
}

/// Pictures so far, those that differ from the one before.
pub(super) struct Recording {
    path: PathBuf,
    frames: Vec<(f64, Vec<Row>)>,
}

impl Recording {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, frames: Vec::new() }
    }

    pub(super) fn frame(&mut self, at: Duration, rows: &[Row]) {
        // The clock alone is no news.
        let shown = |rows: &[Row]| rows.split_last().map(|(_, rest)| rest.to_vec());
        if self.frames.last().is_none_or(|(_, last)| shown(last) != shown(rows)) {
            self.frames.push((at.as_secs_f64(), rows.to_vec()));
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, size: (usize, usize)) -> Result<()> {
        let text =
            if self.path.extension().is_some_and(|e| e == "cast") { self.cast(size) } else { self.svg(size) };
        write(&self.path, &text)
    }

    fn cast(&self, (columns, rows): (usize, usize)) -> String {
        let first = self.frames.first().map_or(0.0, |(at, _)| *at);
        let mut text = serde_json::json!({"version": 2, "width": columns, "height": rows}).to_string() + "\n";
        for (at, rows) in &self.frames {
            text += &(serde_json::json!([at - first, "o", drawn(rows)]).to_string() + "\n");
        }
        text
    }

    fn svg(&self, (columns, rows): (usize, usize)) -> String {
        let step = self.frames.len().div_ceil(PICTURES).max(1);
        let last = self.frames.len().saturating_sub(1);
        let chosen: Vec<_> = self
            .frames
            .iter()
            .enumerate()
            .filter(|(n, _)| n % step == 0 || *n == last)
            .map(|(_, f)| f)
            .collect();
        let first = chosen.first().map_or(0.0, |(at, _)| *at);
        let took = chosen.last().map_or(0.0, |(at, _)| at - first).max(f64::MIN_POSITIVE);
        let begins: Vec<f64> = chosen.iter().map(|(at, _)| (at - first) / took * PLAYS).collect();
        let all = begins.last().copied().unwrap_or(0.0) + LAST;
        let (width, height) = (columns as f64 * CELL.0 + 16.0, rows as f64 * CELL.1 + 16.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"monospace\" font-size=\"11\">\n<style>text{{white-space:pre;fill:#d8dee9}}\
             .t{{fill:#88c0d0;font-weight:bold}}.p{{fill:#a3be8c;font-weight:bold}}</style>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#20242c\"/>\n"
        );
        for (n, ((_, rows), begin)) in chosen.iter().zip(&begins).enumerate() {
            let end = begins.get(n + 1).copied().unwrap_or(all);
            svg += "<g visibility=\"hidden\">";
            let _ = write!(
                svg,
                "<animate attributeName=\"visibility\" calcMode=\"discrete\" dur=\"{all:.2}s\" repeatCount=\"indefinite\" \
                 values=\"hidden;visible;hidden\" keyTimes=\"0;{:.5};{:.5}\"/>",
                begin / all,
                (end / all).min(1.0),
            );
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.text.trim().is_empty()) {
                let class = match row.kind {
                    Kind::Title => " class=\"t\"",
                    Kind::Progress | Kind::Step => " class=\"p\"",
                    Kind::Console => "",
                };
                let y = 18.0 + at as f64 * CELL.1;
                let length = row.text.trim_end().chars().count() as f64 * CELL.0;
                let text = escaped(row.text.trim_end());
                let _ = write!(
                    svg,
                    "\n<text x=\"8\" y=\"{y:.0}\" textLength=\"{length:.1}\"{class}>{text}</text>"
                );
            }
            svg += "</g>\n";
        }
        svg + "</svg>\n"
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn escaped(text: &str) -> String {
    let clean = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    clean.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, clock: &str) -> Vec<Row> {
        vec![Row { kind: Kind::Console, text: text.into() }, Row { kind: Kind::Step, text: clock.into() }]
    }

    #[test]
    fn pictures_that_differ_are_kept() {
        let mut recording = Recording::new("x.svg".into());
        recording.frame(Duration::from_secs(1), &rows("a <b>", "1 s"));
        recording.frame(Duration::from_secs(2), &rows("a <b>", "2 s"));
        recording.frame(Duration::from_secs(3), &rows("c", "3 s"));
        assert_eq!(recording.frames.len(), 2);
        let svg = recording.svg((80, 2));
        assert_eq!(svg.matches("<g ").count(), 2);
        assert!(svg.contains(">a &lt;b&gt;</text>") && svg.contains("keyTimes=\"0;0.00000;"), "{svg}");
        let cast = recording.cast((80, 2));
        let lines: Vec<serde_json::Value> = cast.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["version"], 2);
        assert_eq!((lines[1][0].as_f64(), lines[2][0].as_f64()), (Some(0.0), Some(2.0)));
        assert!(file("x.cast").is_ok() && file("x.gif").is_err());
    }
}
