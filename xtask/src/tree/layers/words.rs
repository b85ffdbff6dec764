//! Rust source as words: enough of its syntax to see modules, imports and paths.

/// A word of the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word<'a> {
    /// A name or a keyword, without `r#`.
    Name(&'a str),
    /// `::`.
    Colons,
    /// Any other character.
    Mark(char),
}

/// The words of a file, without comments, literals, lifetimes and what is compiled for tests only.
pub(super) fn words(source: &str) -> Vec<Word<'_>> {
    let mut all = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        rest = if rest.starts_with("//") {
            rest.split_once('\n').map_or("", |(_, rest)| rest)
        } else if rest.starts_with("/*") {
            after_comment(rest)
        } else if let Some(after) = after_literal(rest) {
            after
        } else if c.is_alphabetic() || c == '_' {
            let (name, after) = split_name(rest);
            all.push(Word::Name(name));
            after
        } else if c.is_ascii_digit() {
            split_name(rest).1
        } else if let Some(after) = rest.strip_prefix("::") {
            all.push(Word::Colons);
            after
        } else {
            if !c.is_whitespace() {
                all.push(Word::Mark(c));
            }
            &rest[c.len_utf8()..]
        };
    }
    without_tests(&all)
}

fn split_name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

fn after_comment(text: &str) -> &str {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return text.get(at..).unwrap_or("");
        }
    }
    ""
}

/// What follows a literal or a lifetime that the text begins with.
fn after_literal(text: &str) -> Option<&str> {
    let body = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - body.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = body.strip_prefix('r') {
        let open = raw.trim_start_matches('#');
        let hashes = &raw[..raw.len() - open.len()];
        if let Some(inside) = open.strip_prefix('"') {
            return inside.split_once(&format!("\"{hashes}")).map(|(_, rest)| rest).or(Some(""));
        }
        return (prefix == 0 && hashes == "#").then_some(open); // a raw name
    }
    if let Some(inside) = body.strip_prefix('"') {
        return Some(after_quote(inside, '"'));
    }
    let inside = body.strip_prefix('\'')?;
    let mut next = inside.chars();
    match (next.next()?, next.next()) {
        ('\\', _) | (_, Some('\'')) => Some(after_quote(inside, '\'')),
        _ => (prefix == 0).then(|| split_name(inside).1), // a lifetime
    }
}

fn after_quote(inside: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if c == quote && !escaped {
            return &inside[at + 1..];
        }
        escaped = c == '\\' && !escaped;
    }
    ""
}

/// Leaves out the items under `#[cfg(test)]` and the like.
fn without_tests<'a>(all: &[Word<'a>]) -> Vec<Word<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if all[at..].starts_with(&[Word::Mark('#'), Word::Mark('['), Word::Name("cfg")]) {
            let end = at + 1 + group(&all[at + 1..]);
            let has = |name| all[at..end].contains(&Word::Name(name));
            if has("test") && !has("not") {
                at = end + item(&all[end..]);
                continue;
            }
        }
        kept.push(all[at]);
        at += 1;
    }
    kept
}

/// Words of the group in brackets that begins here.
pub(super) fn group(words: &[Word<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match word {
            Word::Mark('(' | '[' | '{') => depth += 1,
            Word::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    words.len()
}

/// Words of the item that begins here: up to its semicolon or its body's end.
fn item(words: &[Word<'_>]) -> usize {
    let mut at = 0;
    while at < words.len() {
        match words[at] {
            Word::Mark(';') => return at + 1,
            Word::Mark('{') => return at + group(&words[at..]),
            Word::Mark('(' | '[') => at += group(&words[at..]),
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_tests_are_left_out() {
        let source = r##"
            // use crate::no;
            /* /* use */ crate::no */ fn a<'x>(b: &'x str) { c("use crate::\"no", 'd', '\'', b"e", r#"f"g"#, 0x1f) }
            #[cfg(test)]
            mod tests { use super::*; }
            #[cfg(not(test))] use r#type::h;
            #[cfg(test)] mod more;
        "##;
        let names: Vec<&str> = words(source)
            .iter()
            .filter_map(|word| if let Word::Name(name) = word { Some(*name) } else { None })
            .collect();
        assert_eq!(names, ["fn", "a", "b", "str", "c", "cfg", "not", "test", "use", "type", "h"]);
    }
}
