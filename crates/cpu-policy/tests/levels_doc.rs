//! `docs/cpu-levels.md`, made from the tables.

use std::fmt::Write;

use cpu_policy::{
    COMPONENTS, Cache, CacheKind, FEATURES, FeatureSet, HIDDEN_COMPONENTS, Kind, LEVELS, Level, MXCSR_MASK,
    Place, Polarity,
};

const INTRO: &str = "\
# CPU levels and features

<!-- Made from the tables in crates/cpu-policy; `UPDATE_DOCS=1 cargo test -p cpu-policy` writes it anew. -->

What each level gives a guest, and every feature bit that the hypervisor knows. [cpu-policy.md](cpu-policy.md) gives the
rules and the reasons.

## The levels

First those of user space, then the generations, oldest first. A level has what the one it builds on has, less what it drops. `NAME` means the newest version of a
level, `NAME-vN` that one; all are version 1. User space is the highest level of the x86-64 psABI that a guest carries:
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

const FEATURE_TABLES: &str = "
## The features

Kind: **native**, a guest may have it where the hardware does; **emulated**, the hypervisor provides it whatever the
hardware does; **hidden**, no guest has it; **restriction**, a loss that a guest must be told of before it runs on a host
that has it; **derived**, from the guest's registers or topology, or the same for all guests. A pool gives what all hosts have
of the first two and tells of what any host has of the restrictions. Of the levels the generations are counted, without
their `-tsx` variants.

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
    for level in LEVELS {
        let base = level.base.map_or("-", |base| base.name);
        let Level { name, series, signature, max_leaf, phys_bits, .. } = level;
        let caches = caches(level.caches);
        let user_space = level.user_space();
        let row = format!(
            "| {name} | {base} | {series} | {signature:X} | {user_space} | {max_leaf:X} | {phys_bits} | {caches} |"
        );
        writeln!(page, "{row}").unwrap();
    }
    page.push_str(SETS);
    page.push_str("| level | adds | drops | hides |\n|---|---|---|---|\n");
    for level in LEVELS.iter().filter(|level| !level.has_tsx() && !level.is_user_space()) {
        let [adds, drops, hides] = [level.adds, level.drops, level.hides].map(FeatureSet::of).map(list);
        writeln!(page, "| {} | {adds} | {drops} | {hides} |", level.name).unwrap();
    }
    page.push_str("\nThe variants with TSX:\n\n| level | adds |\n|---|---|\n");
    for level in LEVELS.iter().filter(|level| level.has_tsx()) {
        writeln!(page, "| {} | {} |", level.name, list(FeatureSet::of(level.adds))).unwrap();
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

/// The first and last level of each run of levels that has the feature.
fn given_by(feature: cpu_policy::Feature) -> String {
    let plain: Vec<_> = LEVELS.iter().filter(|level| !level.has_tsx() && !level.is_user_space()).collect();
    let has = |at: usize| plain.get(at).is_some_and(|level| level.features().contains(feature));
    let mut runs = Vec::new();
    for at in (0..plain.len()).filter(|at| has(*at) && (*at == 0 || !has(at - 1))) {
        let last = (at..plain.len()).take_while(|at| has(*at)).last().unwrap_or(at);
        runs.push(match (at, last) {
            (0, last) if last + 1 == plain.len() => "all".to_string(),
            (first, last) if last + 1 == plain.len() => format!("from {}", plain[first].name),
            (first, last) if first == last => plain[first].name.into(),
            (first, last) => format!("{} to {}", plain[first].name, plain[last].name),
        });
    }
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
    user_spaces(&mut page);
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
    for level in LEVELS {
        assert!(page.contains(&format!("\n| {} | ", level.name)), "{}", level.name);
    }
    let losses = FeatureSet::matching(|feature| feature.polarity() == Polarity::Restriction);
    assert_eq!(page.matches("| restriction |").count(), losses.iter().count());
}
