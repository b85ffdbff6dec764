//! `docs/cpu-levels.md`, made from the tables.

use std::fmt::Write;

use cpu_policy::{
    COMPONENTS, Cache, CacheKind, Dump, FEATURES, FeatureSet, HIDDEN_COMPONENTS, HostPolicy, Kind, LEVELS,
    Level, MXCSR_MASK, OLDER, Place, Polarity, fits,
};

const INTRO: &str = "\
# CPU levels and features

<!-- Made from the tables in crates/cpu-policy; `UPDATE_DOCS=1 cargo test -p cpu-policy` writes it anew. -->

What each level gives a guest, and every feature bit that the hypervisor knows. [cpu-policy.md](cpu-policy.md) gives the
rules and the reasons.

## The levels

First those of user space, then the generations, oldest first, then the brands beside them. A level has what the one it builds on has, less what it drops. `NAME` means the newest version of a
level, `NAME-vN` that one. User space is the highest level of the x86-64 psABI that a guest carries:
what a distribution or a package was built for. Physical bits are those of a VM where host and pool have as many and
`phys-bits=` says nothing else; no level demands them.

";

const SETS: &str = "
### What each adds, drops, hides

Hidden is what the silicon of the generation brought and the level leaves out: it is not virtualised, not in every part
of the generation, or not in the emulated ones.

";

const USER_SPACES: &str = "
### The levels of user space

`x86-64-v1` to `-v4` have the features that the psABI names, and beside them only what every CPU with 64-bit mode has or the
hypervisor provides. So each host that carries such programs can give the level, whatever it lacks for a generation: a
VM at `x86-64-v3` goes to any host with AVX2, FMA and BMI. What that costs a guest is in the last column: it has no more
than the name says, so no AES-NI, RDRAND, SMEP or invariant TSC at x86-64-v3. A VM that does not leave a few generations
has more at the level of the oldest one, or of its pool. `x86-64-v2-aes` is no level of the psABI but the default type of
Proxmox. What a generation carries is its column *user space* above; `pool show` says what each member carries, and which
of these levels it takes from the pool.

";

const SOURCES: &str = "
### What the levels beside the line rest on

A generation that dozens of dumps have confirmed rests on these and the SDM. Of the others there are few dumps, or none:
such a level is *provisional*, and does not change either. What turns out to be wrong is put right by a second version.
Xeon D-1500, D-2100 and D-1700/2700 have no level of their own: they give broadwell, skylake-server-ibrs and icelake-server.

";

const HOSTS: &str = "
## Which recorded CPU gives which level

`*`: it gives the level; `?`: its dump does not tell, which lacks an MSR; `.`: it lacks something, and `flexctl check LEVEL
DUMP` says what. The dumps are in `crates/cpu-policy/tests`: `dumps` are the models of Bochs 2.7, `real` are CPUs as they are
(what each is, and from where: `real/README.md` there).

";

const FEATURE_TABLES: &str = "
## The features

Kind: **native**, a guest may have it where the hardware does; **emulated**, the hypervisor provides it whatever the
hardware does; **hidden**, no guest has it; **restriction**, a loss that a guest must be told of before it runs on a host
that has it; **derived**, from the guest's registers or topology, or the same for all guests. A pool gives what all hosts have
of the first two and tells of what any host has of the restrictions. Of the levels the line of generations is given, without
`-tsx` variants, then each beside it that adds the feature to its base.

";

fn list(set: FeatureSet) -> String {
    let names: Vec<_> = set.iter().map(|feature| feature.name()).collect();
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

fn caches(caches: &[Cache]) -> String {
    let name = |cache: &Cache| match cache.kind {
        CacheKind::Data => "L1d".to_string(),
        CacheKind::Instruction => "L1i".into(),
        CacheKind::Unified => format!("L{}", cache.level),
    };
    let one = |cache: &Cache| format!("{} {} {}-way", name(cache), size(cache.bytes()), cache.ways);
    caches.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn levels(page: &mut String) {
    page.push_str("| level | builds on | stands for | signature | user space | highest leaf | physical bits | caches |\n");
    page.push_str("|---|---|---|---|---|---|---|---|\n");
    for level in LEVELS.iter().chain(OLDER) {
        let name = called(level);
        let base = level.base.map_or_else(|| "-".into(), called);
        let series = format!("{}{}", level.series, if level.provisional { " (provisional)" } else { "" });
        let Level { signature, max_leaf, phys_bits, .. } = level;
        let caches = caches(level.caches);
        let user_space = level.user_space();
        let row = format!(
            "| {name} | {base} | {series} | {signature:X} | {user_space} | {max_leaf:X} | {phys_bits} | {caches} |"
        );
        writeln!(page, "{row}").unwrap();
    }
    page.push_str(SETS);
    page.push_str("| level | adds | drops | hides |\n|---|---|---|---|\n");
    for level in LEVELS.iter().chain(OLDER).filter(|level| !level.has_tsx() && !level.is_user_space()) {
        let [adds, drops, hides] = [level.adds, level.drops, level.hides].map(FeatureSet::of).map(list);
        writeln!(page, "| {} | {adds} | {drops} | {hides} |", called(level)).unwrap();
    }
    page.push_str("\nThe variants with TSX:\n\n| level | adds |\n|---|---|\n");
    for level in LEVELS.iter().chain(OLDER).filter(|level| level.has_tsx()) {
        writeln!(page, "| {} | {} |", called(level), list(FeatureSet::of(level.adds))).unwrap();
    }
}

/// The dumps of a folder by their names, sorted.
fn dumps(folder: &str) -> Vec<(String, HostPolicy)> {
    let path = format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "cpu"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, Dump::parse(&std::fs::read_to_string(&path).unwrap()).unwrap().policy())
    };
    let mut hosts: Vec<_> = files.map(read).collect();
    hosts.sort_by(|(one, _), (other, _)| one.cmp(other));
    hosts
}

fn hosts(page: &mut String) {
    page.push_str(HOSTS);
    let hosts = [dumps("dumps"), dumps("real")].concat();
    for (at, (name, host)) in hosts.iter().enumerate() {
        let best = host.best_level().map_or("none", |level| level.name);
        writeln!(page, "{}. `{name}`, {best}", at + 1).unwrap();
    }
    let numbers: Vec<_> = (1..=hosts.len()).map(|number| number.to_string()).collect();
    writeln!(page, "\n| level | {} |\n|---{}|", numbers.join(" | "), "|---".repeat(hosts.len())).unwrap();
    for level in LEVELS {
        let mark = |(_, host): &(String, HostPolicy)| match fits(&level.fits(host)) {
            Some(true) => "*",
            Some(false) => ".",
            None => "?",
        };
        let marks: Vec<_> = hosts.iter().map(mark).collect();
        writeln!(page, "| {} | {} |", level.name, marks.join(" | ")).unwrap();
    }
}

/// The name by which a level is found: with its version where that is not the only one.
fn called(level: &Level) -> String {
    let several = OLDER.iter().any(|old| old.name == level.name);
    if several { format!("{level:?}") } else { level.name.into() }
}

fn sources(page: &mut String) {
    page.push_str(SOURCES);
    page.push_str("| level | rests on |\n|---|---|\n");
    for level in LEVELS {
        if let Some(source) = level.rests_on() {
            let mark = if level.provisional { " (provisional)" } else { "" };
            writeln!(page, "| {}{mark} | {source} |", level.name).unwrap();
        }
    }
}

fn user_spaces(page: &mut String) {
    page.push_str(USER_SPACES);
    page.push_str("| level | adds | within | of which it leaves out |\n|---|---|---|---|\n");
    for level in LEVELS.iter().filter(|level| level.is_user_space()) {
        let base = level.base.map_or("", |base| base.name);
        let within = level.within().unwrap();
        let [adds, less] =
            [FeatureSet::of(level.adds), within.features().difference(level.features())].map(list);
        let to = if base.is_empty() { String::new() } else { format!("to {base}: ") };
        writeln!(page, "| {} | {to}{adds} | {} | {less} |", level.name, within.name).unwrap();
    }
}

/// The line of generations, oldest first.
fn line() -> Vec<&'static Level> {
    let above = |level: &&'static Level| level.base;
    let mut line: Vec<_> = std::iter::successors(Level::by_name("graniterapids"), above).collect();
    line.retain(|level| !level.is_user_space());
    line.reverse();
    line
}

/// The first and last level of each run of generations that has the feature; then the others that have it by themselves.
fn given_by(feature: cpu_policy::Feature) -> String {
    let line = line();
    let has = |at: usize| line.get(at).is_some_and(|level| level.features().contains(feature));
    let mut runs = Vec::new();
    for at in (0..line.len()).filter(|at| has(*at) && (*at == 0 || !has(at - 1))) {
        let last = (at..line.len()).take_while(|at| has(*at)).last().unwrap_or(at);
        runs.push(match (at, last) {
            (0, last) if last + 1 == line.len() => "all".to_string(),
            (first, last) if last + 1 == line.len() => format!("from {}", line[first].name),
            (first, last) if first == last => line[first].name.into(),
            (first, last) => format!("{} to {}", line[first].name, line[last].name),
        });
    }
    if runs.first().is_some_and(|run| run == "all") {
        return "all".into();
    }
    let beside = LEVELS.iter().filter(|level| {
        !level.has_tsx() && !level.is_user_space() && !line.contains(level) && level.adds.contains(&feature)
    });
    runs.extend(beside.map(|level| level.name.to_string()));
    if runs.is_empty() && LEVELS.iter().any(|level| level.features().contains(feature)) {
        return "`-tsx`".into();
    }
    if runs.is_empty() { "-".into() } else { runs.join(", ") }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Native => "native",
        Kind::Emulated => "emulated",
        Kind::Hidden => "hidden",
        Kind::Restriction => "restriction",
        Kind::Derived => "derived",
    }
}

fn features(page: &mut String) {
    let mut places: Vec<Place> = Vec::new();
    for row in FEATURES {
        if places.last() != Some(&row.place) {
            places.push(row.place);
        }
    }
    for place in places {
        writeln!(page, "### {place}\n").unwrap();
        page.push_str("| bit | name | Linux | kind | needs | levels |\n|---|---|---|---|---|---|\n");
        for row in FEATURES.iter().filter(|row| row.place == place) {
            let needs: Vec<_> = row.needs.iter().map(|need| need.name()).collect();
            let (needs, levels) = (needs.join(", "), given_by(row.feature));
            let kind = kind(row.kind);
            let row = format!("| {} | {} | {} | {kind} | {needs} | {levels} |", row.bit, row.name, row.linux);
            // Markdown lint: no trailing or double blanks in empty cells.
            writeln!(page, "{}", row.replace("|  |", "| |")).unwrap();
        }
        page.push('\n');
    }
}

fn states(page: &mut String) {
    page.push_str("## XSAVE state components\n\n");
    page.push_str("| bit | component | bytes | offset | aligned | comes with | offered |\n|---|---|---|---|---|---|---|\n");
    let mut all: Vec<_> = COMPONENTS.iter().map(|c| (c, "yes")).collect();
    all.extend(HIDDEN_COMPONENTS.iter().map(|c| (c, "no")));
    all.sort_by_key(|(c, _)| c.bit);
    for (c, offered) in all {
        let offset = if c.supervisor() { "IA32_XSS".into() } else { c.offset.to_string() };
        let aligned = if c.align64 { "64" } else { "no" };
        let row = format!(
            "| {} | {} | {} | {offset} | {aligned} | {} | {offered} |",
            c.bit,
            c.name,
            c.size,
            c.feature.name()
        );
        writeln!(page, "{row}").unwrap();
    }
    writeln!(page, "\nMXCSR_MASK is {MXCSR_MASK:08X} at every level, as on every CPU with 64-bit mode.")
        .unwrap();
}

fn markdown() -> String {
    let mut page = String::from(INTRO);
    levels(&mut page);
    sources(&mut page);
    user_spaces(&mut page);
    hosts(&mut page);
    page.push_str(FEATURE_TABLES);
    features(&mut page);
    states(&mut page);
    page
}

#[test]
fn documentation_is_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cpu-levels.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == markdown(), "docs/cpu-levels.md is stale: UPDATE_DOCS=1 cargo test -p cpu-policy");
    for level in LEVELS.iter().chain(OLDER) {
        assert!(page.contains(&format!("\n| {} | ", called(level))), "{}", level.name);
    }
    let losses = FeatureSet::matching(|feature| feature.polarity() == Polarity::Restriction);
    assert_eq!(page.matches("| restriction |").count(), losses.iter().count());
}
