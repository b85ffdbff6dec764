//! Layers: the kernel's rooms and the crates import downward only, in the order of `order.rs`, and no modules of a crate go
//! round in a circle.

mod circles;
mod modules;
mod order;
mod words;

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use testbench::paths;

use circles::{Graph, circles, siblings};
use modules::Modules;
use order::Layer;

/// Who imports from whom, and an example of it.
type Imports = BTreeMap<(String, String), String>;
/// Circles: the module they are in, and what is in them; and who imports from whom there.
type Rings = BTreeMap<(String, Vec<String>), String>;

/// The crates whose rooms have an order of their own.
const WITH_ROOMS: [(&str, &str, &[Layer]); 2] =
    [("kernel", "kernel/src/lib.rs", order::KERNEL), ("hw", "kernel/hw/src/lib.rs", order::HW)];

/// The layers, as ARCHITECTURE.md shows them.
pub(super) fn print() {
    println!("{}", shown().join("\n"));
}

/// Each order as it is shown.
fn shown() -> [String; 3] {
    [order::KERNEL, order::HW, order::CRATES].map(order::shown)
}

pub(super) fn check(files: &[String]) -> Result<Vec<String>> {
    let read = |name: &str| std::fs::read_to_string(paths::root().join(name)).ok();
    let mut found = Vec::new();
    let (mut packages, mut rings) = (Vec::new(), Rings::new());
    for manifest in files.iter().filter(|name| name.ends_with("Cargo.toml") && !name.starts_with("fuzz/")) {
        let text = read(manifest).with_context(|| format!("cannot read {manifest}"))?;
        let Some(package) = Package::parse(&text) else { continue };
        let folder = manifest.trim_end_matches("Cargo.toml");
        for root in ["src/lib.rs", "src/main.rs"].map(|root| format!("{folder}{root}")) {
            let Some(modules) = Modules::read(&root, &read) else { continue };
            let ordered = WITH_ROOMS.iter().find(|(_, file, _)| *file == root);
            if let Some((name, _, layers)) = ordered {
                found.extend(rooms(name, &modules, layers));
            }
            rings.extend(rings_of(&package.name, &modules, ordered.is_some()));
        }
        packages.push(package);
    }
    found.extend(crates(&packages, order::CRATES));
    found.extend(rings.iter().map(|((inside, names), example)| {
        format!("{inside}: {} go round in a circle ({example})", names.join(", "))
    }));
    let page = read("ARCHITECTURE.md").unwrap_or_default();
    if shown().iter().any(|layers| !page.contains(layers)) {
        found.push("ARCHITECTURE.md: shows other layers than `scripts/lint-tree --layers` prints".into());
    }
    Ok(found)
}

/// A package: its name, and the names that its dependencies have.
struct Package {
    name: String,
    needs: Vec<String>,
}

impl Package {
    /// From a manifest; none where that is not a package's.
    fn parse(manifest: &str) -> Option<Self> {
        let (mut section, mut name, mut needs) = ("", None, Vec::new());
        for line in manifest.lines().map(str::trim) {
            if let Some(title) = line.strip_prefix('[') {
                section = title.trim_end_matches(']');
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim();
            if section == "package" && key == "name" {
                name = Some(value.trim().trim_matches('"').to_string());
            } else if section == "dependencies" || section.ends_with(".dependencies") {
                needs.push(key.split('.').next().unwrap_or(key).to_string());
            }
        }
        Some(Self { name: name?, needs })
    }
}

/// What is wrong with the rooms of a crate.
fn rooms(of: &str, modules: &Modules, layers: &[Layer]) -> Vec<String> {
    let (mut there, mut found) = (BTreeSet::new(), Vec::new());
    for path in modules.paths() {
        match room_of(layers, path) {
            Some(room) => _ = there.insert(room.to_string()),
            None => found.push(format!("{of}: module {} is in no layer of order.rs", path.join("::"))),
        }
    }
    let mut imports = Imports::new();
    for (from, to) in modules.references() {
        if let (Some(a), Some(b)) = (room_of(layers, from), room_of(layers, to))
            && a != b
        {
            let example = format!("{} > {}", from.join("::"), to.join("::"));
            imports.entry((a.into(), b.into())).or_insert(example);
        }
    }
    found.extend(order_of(of, layers, &there, &imports));
    found
}

/// What is wrong with the order of the crates.
fn crates(packages: &[Package], layers: &[Layer]) -> Vec<String> {
    let names: BTreeSet<String> = packages.iter().map(|package| package.name.clone()).collect();
    let lost = names.iter().filter(|name| place(layers, name).is_none());
    let mut found: Vec<String> =
        lost.map(|name| format!("crate {name} is in no layer of order.rs")).collect();
    let mut imports = Imports::new();
    for package in packages {
        for need in package.needs.iter().filter(|need| names.contains(*need)) {
            imports.insert((package.name.clone(), need.clone()), "Cargo.toml".into());
        }
    }
    found.extend(order_of("crates", layers, &names, &imports));
    found
}

/// Imports that are not downward; layers' names that nothing has.
fn order_of(what: &str, layers: &[Layer], there: &BTreeSet<String>, imports: &Imports) -> Vec<String> {
    let names = layers.iter().flat_map(|layer| layer.names).filter(|name| !there.contains(**name));
    let mut found: Vec<String> =
        names.map(|name| format!("{what}: order.rs names {name}, which is not there")).collect();
    let is_climb = |(from, to): &(String, String)| place(layers, to) <= place(layers, from);
    found.extend(imports.iter().filter(|(pair, _)| is_climb(pair)).map(|((from, to), example)| {
        format!("{what}: {from} imports {to}, which is not below it ({example})")
    }));
    found
}

/// The circles of a crate's modules. Where its rooms have an order, what is right below the root is left to that.
fn rings_of(package: &str, modules: &Modules, has_rooms: bool) -> Rings {
    let mut all = Rings::new();
    for (inside, graph) in siblings(modules.references()) {
        if has_rooms && inside.is_empty() {
            continue;
        }
        let name = if inside.is_empty() { package.to_string() } else { format!("{package}::{inside}") };
        all.extend(
            circles(&graph)
                .into_iter()
                .map(|circle| ((name.clone(), circle.clone()), within(&graph, &circle))),
        );
    }
    all
}

/// Who imports from whom in a circle.
fn within(graph: &Graph, circle: &[String]) -> String {
    let pairs = circle.iter().flat_map(|from| {
        let to = graph[from].iter().filter(move |to| *to != from && circle.contains(to));
        to.map(move |to| format!("{from} > {to}"))
    });
    pairs.collect::<Vec<_>>().join(", ")
}

/// The room that a module is in: `main` is the root alone.
fn room_of(layers: &[Layer], path: &[String]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("main");
    }
    (1..=path.len()).rev().find_map(|len| {
        let name = path[..len].join("::");
        layers.iter().flat_map(|layer| layer.names).copied().find(|&room| room == name)
    })
}

/// The number of the layer that has this name.
fn place(layers: &[Layer], name: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: &[Layer] = &[
        Layer { names: &["main"], are: "" },
        Layer { names: &["top", "low::high"], are: "" },
        Layer { names: &["low"], are: "" },
    ];

    fn modules(files: &[(&str, &str)]) -> Modules {
        let read =
            |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_string());
        Modules::read("src/main.rs", &read).expect("there is a root")
    }

    #[test]
    fn an_import_that_climbs_is_named() {
        let files = [
            ("src/main.rs", "mod top; mod low; fn main() { top::run() }"),
            ("src/top.rs", "use crate::low::X;"),
            ("src/low.rs", "mod high; mod deep; pub struct X;"),
            ("src/low/high.rs", "use super::X;"),
            ("src/low/deep.rs", "fn f() { crate::top::run() }"),
        ];
        let climb = "kernel: low imports top, which is not below it (low::deep > top)";
        assert_eq!(rooms("kernel", &modules(&files), LAYERS), [climb]);
        let sides = [
            &files[..2],
            &[("src/low.rs", "mod high; mod deep; pub struct X;"), ("src/low/high.rs", "use crate::top;")],
        ]
        .concat();
        let side = "kernel: low::high imports top, which is not below it (low::high > top)";
        assert_eq!(rooms("kernel", &modules(&sides), LAYERS), [side]);
    }

    #[test]
    fn every_room_has_a_layer_and_every_layer_its_rooms() {
        let files = [("src/main.rs", "mod top; mod other;"), ("src/top.rs", ""), ("src/other.rs", "")];
        let expected = [
            "kernel: module other is in no layer of order.rs",
            "kernel: order.rs names low::high, which is not there",
            "kernel: order.rs names low, which is not there",
        ];
        assert_eq!(rooms("kernel", &modules(&files), LAYERS), expected);
    }

    #[test]
    fn a_crate_needs_what_is_below_it() {
        let package = |manifest: &str| Package::parse(manifest).expect("a package");
        let packages = [
            package("[package]\nname = \"main\"\n[dependencies]\ntop.workspace = true\nlog = \"1\"\n"),
            package("[package]\nname = \"top\"\n[dev-dependencies]\nmain.workspace = true\n"),
            package("[package]\nname = \"low::high\""),
            package("[package]\nname = \"low\"\n[target.'cfg(unix)'.dependencies]\ntop = { path = \"x\" }\n"),
        ];
        let expected = ["crates: low imports top, which is not below it (Cargo.toml)"];
        assert_eq!(crates(&packages, LAYERS), expected);
        assert!(Package::parse("[workspace]\nmembers = []\n").is_none());
    }

    #[test]
    fn circles_are_told_with_their_ways() {
        let files = [
            ("src/main.rs", "mod a; mod b; mod c;"),
            ("src/a.rs", "mod x; use crate::b;"),
            ("src/a/x.rs", "use super::super::c;"),
            ("src/b.rs", "use crate::{a, c};"),
            ("src/c.rs", ""),
        ];
        let rings = rings_of("it", &modules(&files), false);
        let expected =
            (("it".to_string(), vec!["a".to_string(), "b".to_string()]), "a > b, b > a".to_string());
        assert_eq!(rings.into_iter().collect::<Vec<_>>(), [expected]);
        assert_eq!(rings_of("it", &modules(&files), true), Rings::new());
    }
}
