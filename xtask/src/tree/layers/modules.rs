//! The modules of one crate, and which of them each refers to.

use std::collections::{BTreeMap, BTreeSet};

use super::words::{Word, group, words};

/// A crate's modules; the first is the root.
pub(super) struct Modules {
    all: Vec<Module>,
}

/// One module.
#[derive(Default)]
struct Module {
    /// Names from the root on, the root's own left out.
    path: Vec<String>,
    children: BTreeMap<String, usize>,
    /// What is defined in it.
    items: BTreeSet<String>,
    /// Names that imports bind, and the paths they stand for.
    bound: BTreeMap<String, Vec<String>>,
    /// Paths whose whole contents are imported.
    globs: Vec<Vec<String>>,
    /// Every path in it that names a module or may go through one.
    paths: BTreeSet<Vec<String>>,
}

/// Modules that are no part of the crate proper.
const TESTS: [&str; 2] = ["tests", "testing"];
/// How many imports a name may be handed on by.
const HOPS: usize = 16;

impl Modules {
    /// Reads a crate from its root file on. `read` gives the text of a file, if there is one.
    pub(super) fn read(root: &str, read: &impl Fn(&str) -> Option<String>) -> Option<Self> {
        let text = read(root)?;
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut modules = Self { all: vec![Module::default()] };
        modules.fill(0, &words(&text), folder, read);
        Some(modules)
    }

    /// Takes up the words of a module whose children's files are in `folder`.
    fn fill(&mut self, own: usize, words: &[Word<'_>], folder: &str, read: &impl Fn(&str) -> Option<String>) {
        let mut at = 0;
        while at < words.len() {
            let rest = &words[at..];
            at += match rest {
                // Tests may name whatever they try.
                [Word::Name("mod"), Word::Name(name), Word::Mark(';'), ..] if TESTS.contains(name) => 3,
                [Word::Name("mod"), Word::Name(name), Word::Mark('{'), ..] if TESTS.contains(name) => {
                    2 + group(&rest[2..])
                }
                [Word::Name("mod"), Word::Name(name), Word::Mark(';'), ..] => {
                    let below = format!("{folder}/{name}");
                    let text = read(&format!("{below}.rs")).or_else(|| read(&format!("{below}/mod.rs")));
                    let child = self.child(own, name);
                    self.fill(child, &super::words::words(&text.unwrap_or_default()), &below, read);
                    3
                }
                [Word::Name("mod"), Word::Name(name), Word::Mark('{'), ..] => {
                    let end = 2 + group(&rest[2..]);
                    let child = self.child(own, name);
                    self.fill(child, &rest[3..end - 1], &format!("{folder}/{name}"), read);
                    end
                }
                [Word::Name("use"), Word::Name(_) | Word::Colons | Word::Mark('{'), ..] => {
                    1 + self.import(own, &mut Vec::new(), &rest[1..])
                }
                [
                    Word::Name("fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"),
                    Word::Name(name),
                    ..,
                ]
                | [Word::Name("macro_rules"), Word::Mark('!'), Word::Name(name), ..] => {
                    self.all[own].items.insert((*name).into());
                    1
                }
                // A path from outside of the crate.
                [Word::Colons, Word::Name(_), ..] => 2,
                [Word::Name(_), Word::Colons, Word::Name(_), ..] => self.path(own, rest),
                _ => 1,
            };
        }
    }

    fn child(&mut self, own: usize, name: &str) -> usize {
        let new = self.all.len();
        let mut path = self.all[own].path.clone();
        path.push(name.into());
        self.all.push(Module { path, ..Module::default() });
        self.all[own].children.insert(name.into(), new);
        new
    }

    /// A path in an expression, a type or a visibility. Returns its words.
    fn path(&mut self, own: usize, words: &[Word<'_>]) -> usize {
        let (mut path, mut at) = (Vec::new(), 0);
        while let Some(Word::Name(name)) = words.get(at) {
            path.push(String::from(*name));
            at += 1;
            match words.get(at..at + 2) {
                Some([Word::Colons, Word::Name(_)]) => at += 1,
                _ => break,
            }
        }
        self.all[own].paths.insert(path);
        at
    }

    /// One tree of an import, below `prefix`. Returns its words.
    fn import(&mut self, own: usize, prefix: &mut Vec<String>, words: &[Word<'_>]) -> usize {
        let depth = prefix.len();
        let mut at = 0;
        loop {
            match words.get(at) {
                Some(Word::Name("as")) => {
                    let alias = words.get(at + 1);
                    let Some(Word::Name(alias)) = alias else { break };
                    self.bind(own, prefix, alias);
                    at += 2;
                    break;
                }
                Some(Word::Name(name)) => {
                    prefix.push((*name).into());
                    at += 1;
                    if words.get(at) == Some(&Word::Name("as")) {
                        continue;
                    }
                    if words.get(at) != Some(&Word::Colons) {
                        // `self` in a list means the module before it.
                        if *name == "self" && depth > 0 {
                            prefix.pop();
                        }
                        let last = prefix.last().cloned().unwrap_or_default();
                        self.bind(own, prefix, &last);
                        break;
                    }
                }
                Some(Word::Colons) => {
                    // At the beginning, from outside of the crate.
                    if at == 0 && depth == 0 {
                        prefix.push(String::new());
                    }
                    at += 1;
                }
                Some(Word::Mark('*')) => {
                    self.all[own].globs.push(prefix.clone());
                    self.all[own].paths.insert(prefix.clone());
                    at += 1;
                    break;
                }
                Some(Word::Mark('{')) => {
                    let end = at + group(&words[at..]);
                    at += 1;
                    while at < end - 1 {
                        at += self.import(own, prefix, &words[at..end - 1]).max(1);
                        at += usize::from(words.get(at) == Some(&Word::Mark(',')));
                    }
                    at = end;
                    break;
                }
                _ => break,
            }
        }
        prefix.truncate(depth);
        at
    }

    fn bind(&mut self, own: usize, path: &[String], name: &str) {
        // `self as name` in a list.
        let path =
            if path.len() > 1 { path.strip_suffix(&["self".to_string()]).unwrap_or(path) } else { path };
        let module = &mut self.all[own];
        module.paths.insert(path.to_vec());
        if path.len() != 1 || path[0] != name {
            module.bound.insert(name.into(), path.to_vec());
        }
    }

    /// The modules that a path of `from` goes through by way of imports, and the one in which it ends. Empty for a path
    /// that leads out of the crate.
    fn reached(&self, from: usize, path: &[String]) -> Vec<usize> {
        let mut reached = Vec::new();
        let (mut own, mut path) = (from, path.to_vec());
        let mut first = true;
        for _ in 0..HOPS {
            let mut left = path.len();
            let mut hop = None;
            for name in &path {
                left -= 1;
                let module = &self.all[own];
                match name.as_str() {
                    "crate" => own = 0,
                    "self" => {}
                    "super" => own = self.parent(own),
                    name if module.children.contains_key(name) => own = module.children[name],
                    name => {
                        let target = module.bound.get(name).cloned().or_else(|| self.through_glob(own, name));
                        match target {
                            Some(target) => hop = Some(target),
                            // Of a bare name that nothing here binds, the crate of that name is meant.
                            None if first && !module.items.contains(name) => return reached,
                            None => {}
                        }
                        break;
                    }
                }
                first = false;
            }
            reached.push(own);
            let Some(mut target) = hop else { break };
            first = true;
            target.extend(path.split_off(path.len() - left));
            path = target;
        }
        reached
    }

    /// The path by which a glob import brings a name into a module.
    fn through_glob(&self, own: usize, name: &str) -> Option<Vec<String>> {
        self.all[own].globs.iter().find_map(|glob| {
            let target = &self.all[self.plain(own, glob)?];
            let has = target.items.contains(name)
                || target.children.contains_key(name)
                || target.bound.contains_key(name);
            let mut path = glob.clone();
            path.push(name.into());
            has.then_some(path)
        })
    }

    /// The module that a path without imports names.
    fn plain(&self, from: usize, path: &[String]) -> Option<usize> {
        path.iter().try_fold(from, |own, name| match name.as_str() {
            "crate" => Some(0),
            "self" => Some(own),
            "super" => Some(self.parent(own)),
            name => self.all[own].children.get(name).copied(),
        })
    }

    fn parent(&self, own: usize) -> usize {
        let path = &self.all[own].path;
        let above = path.split_last().map_or(&[][..], |(_, above)| above);
        above.iter().fold(0, |own, name| self.all[own].children[name])
    }

    /// The paths of all modules, the root's is empty.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.all.iter().map(|module| module.path.as_slice())
    }

    /// Which module refers to which other, by their paths.
    pub(super) fn references(&self) -> BTreeSet<(&[String], &[String])> {
        let mut all = BTreeSet::new();
        for (own, module) in self.all.iter().enumerate() {
            for path in &module.paths {
                let targets = self.reached(own, path).into_iter().filter(|&target| target != own);
                all.extend(targets.map(|target| (module.path.as_slice(), self.all[target].path.as_slice())));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(files: &[(&str, &str)]) -> Vec<String> {
        let read =
            |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_string());
        let modules = Modules::read("src/lib.rs", &read).expect("there is a root");
        let show = |path: &[String]| path.join("::");
        modules.references().into_iter().map(|(from, to)| format!("{} > {}", show(from), show(to))).collect()
    }

    #[test]
    fn imports_paths_and_re_exports_are_followed() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c; pub use c::Thing; pub use outside::Other;"),
            (
                "src/a.rs",
                "use crate::{Other, Thing as Same}; fn f() { Same::new(); outside::c::g(); ::b::h() }",
            ),
            ("src/b/mod.rs", "mod d; use super::c::{self, *}; fn f() -> c::Thing { d::g(); Thing }"),
            (
                "src/b/d.rs",
                "pub(in crate::b) fn g() { use std::b; crate::a::f() } mod inner { use super::super::f; }",
            ),
            ("src/c.rs", "pub struct Thing; #[cfg(test)] mod tests { use crate::a; }"),
        ];
        let expected = [
            " > c", // the re-export
            "a > ",
            "a > c", // through it
            "b > b::d",
            "b > c",
            "b::d > a",
            "b::d > b",
            "b::d::inner > b",
        ];
        assert_eq!(references(&files), expected);
    }

    #[test]
    fn a_name_that_comes_by_a_glob_is_followed() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "use crate::b::*; fn f() { Thing::new() }"),
            ("src/b.rs", "pub use crate::c::Thing;"),
            ("src/c.rs", "pub struct Thing;"),
        ];
        assert_eq!(references(&files), ["a > b", "a > c", "b > c"]);
    }
}
