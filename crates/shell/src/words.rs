//! A line's words: blanks separate them, quotes hold a value with blanks together.

/// A quote that is not closed; from its word on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Open<'a>(pub(crate) &'a str);

/// The words of a line as typed. A quote, `"` or `'`, begins with a word or right behind its `=`, and ends where the
/// same one comes again.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    pub(crate) const fn new(line: &'a str) -> Self {
        Self(line)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Result<&'a str, Open<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.0.trim_start();
        if line.is_empty() {
            self.0 = line;
            return None;
        }
        let mut quote = None;
        let mut before = '=';
        for (at, c) in line.char_indices() {
            match quote {
                Some(open) if open == c => quote = None,
                Some(_) => {}
                None if c.is_whitespace() => {
                    let (word, rest) = line.split_at(at);
                    self.0 = rest;
                    return Some(Ok(word));
                }
                None if matches!(c, '"' | '\'') && before == '=' => quote = Some(c),
                None => {}
            }
            before = c;
        }
        self.0 = "";
        Some(if quote.is_some() { Err(Open(line)) } else { Ok(line) })
    }
}

/// A value without the quotes around it.
pub(crate) fn unquoted(word: &str) -> &str {
    let inside = |quote: char| word.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn quotes_hold_words_together() {
        let words = |line| Words::new(line).collect::<Result<Vec<_>, _>>();
        assert_eq!(words("  vm create\tx "), Ok(alloc::vec!["vm", "create", "x"]));
        assert_eq!(
            words(r#"a "b c" --d='e "f" g' h"i"#).unwrap(),
            ["a", r#""b c""#, r#"--d='e "f" g'"#, r#"h"i"#]
        );
        assert_eq!(words("a 'b c"), Err(Open("'b c")));
        assert_eq!(words("a b='c").unwrap_err(), Open("b='c"));
        assert_eq!(words("").unwrap(), [""; 0]);
        assert_eq!(unquoted("'a b'"), "a b");
        assert_eq!(unquoted("\"a'"), "\"a'");
        assert_eq!(unquoted("'"), "'");
        assert_eq!(unquoted("''"), "");
    }
}
