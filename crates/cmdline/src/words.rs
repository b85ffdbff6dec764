//! Splits a line into words: blanks separate, `"` quotes, `\` takes the sting out of `"`, `'` and `\` (GRUB
//! writes them so), and a bare `--` ends the options.

use alloc::string::String;

use crate::wipe::wipe;

/// One word with quotes and escapes resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// The line ended inside a quote.
    pub(crate) open: bool,
}

/// Any word may be a key.
impl Drop for Word {
    fn drop(&mut self) {
        wipe(core::mem::take(&mut self.text));
    }
}

impl Word {
    /// The option's name, with or without `--` before it, and its value where a `=` follows.
    pub(crate) fn split(&self) -> (&str, Option<&str>) {
        let text = self.text.strip_prefix("--").unwrap_or(&self.text);
        text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)))
    }
}

/// The words before `--`. [`Words::rest`] gives what is behind it.
pub(crate) struct Words<'a> {
    left: &'a str,
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// Starts at the first option: a leading file path is passed over.
    pub(crate) fn new(line: &'a str) -> Self {
        let mut words = Words { left: line, rest: "" };
        let mut after_first = Words { left: line, rest: "" };
        if after_first.next().is_some_and(|word| !word.text.contains('=') && word.text.contains('/')) {
            words = after_first;
        }
        words
    }

    /// All words before `--`, a leading path too.
    pub(crate) fn from_first(line: &'a str) -> Self {
        Words { left: line, rest: "" }
    }

    /// All words of the line, a leading path too, each with its raw text and the blanks before it.
    pub(crate) fn whole(line: &'a str) -> RawWords<'a> {
        RawWords(Words { left: line, rest: "" }, line)
    }

    /// What follows `-- `, verbatim; empty until the iterator has ended.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let line = self.left.trim_start_matches(is_blank);
        if let Some(behind) = line.strip_prefix("--")
            && (behind.is_empty() || behind.starts_with(is_blank))
        {
            self.rest = behind.strip_prefix(is_blank).unwrap_or(behind);
            self.left = "";
            return None;
        }
        if line.is_empty() {
            self.left = "";
            return None;
        }
        let mut word = Word { text: String::with_capacity(line.len()), open: false };
        let mut chars = line.chars();
        loop {
            let at = chars.as_str();
            let Some(c) = chars.next() else {
                self.left = "";
                break;
            };
            match c {
                '"' => word.open = !word.open,
                '\\' => {
                    let escaped = chars.clone().next().filter(|next| matches!(next, '"' | '\'' | '\\'));
                    if escaped.is_some() {
                        chars.next();
                    }
                    word.text.push(escaped.unwrap_or(c));
                }
                _ if is_blank(c) && !word.open => {
                    self.left = at;
                    break;
                }
                _ => word.text.push(c),
            }
        }
        Some(word)
    }
}

/// Words with their raw text.
pub(crate) struct RawWords<'a>(Words<'a>, &'a str);

impl<'a> RawWords<'a> {
    /// What no word was made of: from `--` on.
    pub(crate) fn left(&self) -> &'a str {
        self.1
    }
}

impl<'a> Iterator for RawWords<'a> {
    type Item = (&'a str, Word);

    fn next(&mut self) -> Option<Self::Item> {
        let word = self.0.next()?;
        let (raw, left) = self.1.split_at(self.1.len() - self.0.left.len());
        self.1 = left;
        Some((raw, word))
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn split(line: &str) -> (Vec<String>, &str) {
        let mut words = Words::new(line);
        let list = words.by_ref().map(|word| word.text.clone()).collect();
        (list, words.rest())
    }

    #[test]
    fn separator_keeps_the_rest_verbatim() {
        assert_eq!(
            split("a=1  b --  x=\"1 2\"  -- y "),
            (["a=1", "b"].map(String::from).to_vec(), " x=\"1 2\"  -- y ")
        );
        assert_eq!(split("a --"), (["a"].map(String::from).to_vec(), ""));
        assert_eq!(split("a --b \"--\" c"), (["a", "--b", "--", "c"].map(String::from).to_vec(), ""));
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(split(r#""a=1 2" b="3 4"5 \"c\\ d\e"#).0, ["a=1 2", "b=3 45", "\"c\\", "d\\e"]);
        assert!(Words::new("a=\"b c").next().is_some_and(|word| word.open && word.text == "a=b c"));
    }

    #[test]
    fn leading_path_is_passed_over() {
        assert_eq!(split("/boot/flexvisor.elf a=1").0, ["a=1"]);
        assert_eq!(split("tftp://10.0.2.2/k a").0, ["a"]);
        assert_eq!(split("ip=10.0.0.1/8 a").0, ["ip=10.0.0.1/8", "a"]);
        assert_eq!(split("a /x").0, ["a", "/x"]);
        assert_eq!(split("/boot/k -- /x y"), (Vec::new(), "/x y"));
    }
}
