//! Which known word a typo was meant to be.

/// Longest word looked at, in bytes; nobody mistypes longer ones into a short command.
const LONGEST: usize = 32;

/// The candidate that `word` most likely stands for: the one it is the beginning of, or the one with the fewest
/// typing errors (wrong, missing, extra or swapped letters) if they are few for its length. Case does not count.
pub fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str> + Clone) -> Option<&'c str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let begins = |c: &&str| c.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    if let Some(whole) = candidates.clone().find(begins) {
        return Some(whole);
    }
    let allowed = if word.len() <= 3 { 1 } else { 2 };
    let counted =
        candidates.filter(|c| c.len() <= LONGEST).map(|c| (distance(word.as_bytes(), c.as_bytes()), c));
    counted.min_by_key(|(d, _)| *d).filter(|(d, c)| *d <= allowed && *d < c.len()).map(|(_, c)| c)
}

/// Optimal string alignment distance of two words of at most [`LONGEST`] bytes.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before = [0usize; LONGEST + 1];
    let mut last = [0usize; LONGEST + 1];
    let mut row = [0usize; LONGEST + 1];
    for (j, cell) in last.iter_mut().enumerate() {
        *cell = j;
    }
    let mut a_prev = 0u8;
    for (i, ca) in a.iter().map(u8::to_ascii_lowercase).enumerate() {
        row[0] = i + 1;
        let mut b_prev = 0u8;
        for (j, cb) in b.iter().map(u8::to_ascii_lowercase).enumerate() {
            let swapped =
                if i > 0 && j > 0 && ca == b_prev && a_prev == cb { before[j - 1] + 1 } else { usize::MAX };
            let edited = (last[j] + usize::from(ca != cb)).min(last[j + 1] + 1).min(row[j] + 1);
            row[j + 1] = edited.min(swapped);
            b_prev = cb;
        }
        a_prev = ca;
        before = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_counted() {
        assert_eq!(distance(b"vm", b"vm"), 0);
        assert_eq!(distance(b"vn", b"vm"), 1);
        assert_eq!(distance(b"lsit", b"list"), 1);
        assert_eq!(distance(b"miggrate", b"migrate"), 1);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }

    #[test]
    fn far_words_are_not_offered() {
        let words = ["vm", "help", "migrate", "--force"];
        let near = |w| nearest(w, words.into_iter());
        assert_eq!(near("vn"), Some("vm"));
        assert_eq!(near("HELP"), Some("help"));
        assert_eq!(near("mig"), Some("migrate"));
        assert_eq!(near("-force"), Some("--force"));
        assert_eq!(near("xx"), None);
        assert_eq!(near("poweroff"), None);
        assert_eq!(near(""), None);
        assert_eq!(near("ü"), None);
    }
}
