//! The option table's row, and the one loop that applies a line to it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::OptionError;
use crate::secret;
use crate::words::{Word, Words};

/// One option: `T` is the set of options it belongs to.
pub struct Spec<T: 'static> {
    /// The name before the `=`.
    pub name: &'static str,
    /// The form of the value; empty for a flag.
    pub form: &'static str,
    /// What holds when the option is absent, as the user would write it.
    pub default: &'static str,
    /// One sentence for the documentation.
    pub help: &'static str,
    /// Applies a value; `None` when it does not fit, and `T` is then unchanged.
    pub(crate) set: fn(&mut T, &str) -> Option<()>,
}

/// A set of options.
pub(crate) trait OptionSet: Default {
    /// Those that may stand on a line more than once.
    const REPEATED: &'static [&'static str] = &[];

    /// Adds what another occurrence of one of them says; `None` when that does not fit, and nothing is changed.
    fn append(&mut self, _more: Self) -> Option<()> {
        None
    }
}

impl<T> Spec<T> {
    fn apply(&'static self, to: &mut T, value: Option<&str>) -> Result<(), OptionError> {
        let (name, form) = (self.name, self.form);
        match value {
            Some(value) if form.is_empty() => {
                Err(OptionError::FlagValue { name, value: secret::value(name, None, value) })
            }
            None if !form.is_empty() => Err(OptionError::NoValue { name, form }),
            value => {
                let value = value.unwrap_or_default();
                let bad = || OptionError::BadValue { name, value: secret::value(name, None, value), form };
                (self.set)(to, value).ok_or_else(bad)
            }
        }
    }
}

/// Applies all words of `line` and hands each fault to `fault`; returns the text behind `--`.
pub(crate) fn apply<'a, T: OptionSet>(
    table: &'static [Spec<T>],
    line: &'a str,
    to: &mut T,
    fault: impl FnMut(OptionError),
) -> &'a str {
    let mut words = Words::new(line);
    apply_words(table, &mut words, to, &mut Vec::new(), fault);
    words.rest()
}

/// Applies `words`, which come from the same place as those that gave what was `seen`.
pub(crate) fn apply_words<T: OptionSet>(
    table: &'static [Spec<T>],
    words: &mut Words<'_>,
    to: &mut T,
    seen: &mut Vec<&'static str>,
    mut fault: impl FnMut(OptionError),
) {
    for word in words.by_ref() {
        if word.open {
            fault(OptionError::OpenQuote { word: secret::word(&word.text, None) });
            continue;
        }
        match apply_word(table, &word, to, seen) {
            Ok(name) => seen.push(name),
            Err(error) => fault(error),
        }
    }
}

/// The options of `line` that are in force by it, with their values as they may be shown.
pub(crate) fn given<T: OptionSet>(table: &'static [Spec<T>], line: &str) -> Vec<(&'static str, String)> {
    let mut scratch = T::default();
    let mut given: Vec<(&'static str, String)> = Vec::new();
    for word in Words::new(line).filter(|word| !word.open) {
        let seen: Vec<&'static str> = given.iter().map(|(name, _)| *name).collect();
        if let Ok(name) = apply_word(table, &word, &mut scratch, &seen) {
            let shown = word.split().1.map(|value| secret::value(name, None, value));
            let shown = shown.unwrap_or_else(|| "yes".into());
            match given.iter_mut().find(|(other, _)| *other == name) {
                Some((_, list)) => {
                    list.push(',');
                    list.push_str(&shown);
                }
                None => given.push((name, shown)),
            }
        }
    }
    given
}

fn apply_word<T: OptionSet>(
    table: &'static [Spec<T>],
    word: &Word,
    to: &mut T,
    seen: &[&'static str],
) -> Result<&'static str, OptionError> {
    let (name, value) = word.split();
    let Some(spec) = table.iter().find(|spec| spec.name == name) else {
        let near = nearest(name, table.iter().map(|spec| spec.name));
        return Err(OptionError::Unknown { word: secret::word(&word.text, near), near });
    };
    if seen.contains(&spec.name) {
        if !T::REPEATED.contains(&spec.name) {
            let value = secret::value(spec.name, None, value.unwrap_or_default());
            return Err(OptionError::Twice { name: spec.name, value });
        }
        let mut more = T::default();
        spec.apply(&mut more, value)?;
        let (name, form, value) = (spec.name, spec.form, value.unwrap_or_default().into());
        return to.append(more).map(|()| name).ok_or(OptionError::BadValue { name, value, form });
    }
    spec.apply(to, value)?;
    Ok(spec.name)
}

/// The name within two edits of `name` (one for names of up to four letters), the closest first.
pub(crate) fn nearest(name: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name: String = name.chars().take(64).collect::<String>().to_ascii_lowercase();
    let distance = |candidate: &'static str| (edits(&name, candidate), candidate);
    let (distance, best) = names.map(distance).min_by_key(|(distance, _)| *distance)?;
    let limit = if best.len() <= 4 { 1 } else { 2 };
    (distance <= limit).then_some(best)
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(b.chars()) {
            let replace = diagonal + usize::from(ca != cb);
            diagonal = *cell;
            left = replace.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance() {
        for (a, b, want) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("men", "mem", 1)]
        {
            assert_eq!(edits(a, b), want, "{a} {b}");
        }
    }
}
