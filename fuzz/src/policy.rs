//! CPU policies: as bytes from another host, and the CPU of a host that enumerates anything.

use cpu_policy::{
    Baseline, COMPONENTS, Companion, Dump, Dynamic, GuestPolicy, HostPolicy, LEVELS, Ledger, Level, Place,
    RULES, Reg, Sense, Shape, Subject,
};
use vm_types::Topology;

const SHAPE: Shape =
    Shape { topology: Topology::flat(1), tsc_hz: 20_000_000, apic_hz: 25_000_000, phys_bits: None };

/// A host that can give `level`.
pub(crate) fn host_of(level: &Level) -> HostPolicy {
    let features = level.features();
    let cpuid = |leaf: u32, subleaf: u32| {
        let [eax, ebx, ecx, edx] =
            [Reg::Eax, Reg::Ebx, Reg::Ecx, Reg::Edx].map(|reg| features.cpuid(leaf, subleaf, reg));
        let component = COMPONENTS.iter().find(|c| u32::from(c.bit) == subleaf && subleaf > 1);
        match (leaf, component) {
            (0, _) => [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
            (1, _) => [0x5_0654, 0, ecx, edx],
            (7, _) => [if subleaf == 0 { 2 } else { eax }, ebx, ecx, edx],
            (0xd, Some(c)) => [c.size, c.offset, u32::from(c.align64) << 1, 0],
            (0xd, None) if subleaf == 0 => [COMPONENTS.iter().fold(3, |all, c| all | 1 << c.bit), 0, 0, 0],
            (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
            (0x8000_0008, _) => [0x3934, ebx, 0, 0],
            _ => [eax, ebx, ecx, edx],
        }
    };
    HostPolicy::from_reader(cpuid, |index| Some(features.bits(Place::Msr(index))))
}

/// What the other host says its guest sees.
pub fn decode(data: &[u8]) {
    match GuestPolicy::decode(data) {
        Ok(policy) => {
            let again = GuestPolicy::decode(&policy.encode());
            assert_eq!(again.as_ref(), Ok(&policy), "it changes on its way");
            LEVELS.iter().for_each(|level| drop(policy.fits(&host_of(level)).map_err(|m| m.to_string())));
            ask(&policy);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What comes along with a VM for the operator's eyes: whatever is accepted can be shown, compared and sent on.
pub fn ledger(data: &[u8]) {
    match Companion::decode(data) {
        Ok(companion) => {
            let again = Companion::decode(&companion.encode());
            assert_eq!(again.as_ref(), Ok(&companion), "it changes on its way");
            let Some(ledger) = companion.ledger else { return };
            let text = ledger.to_string();
            assert!(
                text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()),
                "unfit for a console"
            );
            assert!(ledger.changes(&ledger).is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Everything a guest can ask.
fn ask(policy: &GuestPolicy) {
    let state = || Dynamic { apic_id: 0, cr4: u64::MAX, xcr0: 0xE7 };
    for leaf in (0..0x40).chain(0x4000_0000..0x4000_0010).chain(0x8000_0000..0x8000_0010).chain([u32::MAX]) {
        for subleaf in [0, 1, 2, 9, 63, u32::MAX] {
            let _ = policy.cpuid(leaf, subleaf, state);
        }
    }
    assert!(!policy.xcr0_valid(0), "x87 state cannot be off");
    for bit in 0..64 {
        let value = 1 | 1 << bit;
        assert!(!policy.xcr0_valid(value) || value & !policy.xcr0_allowed() == 0, "XCR0 {value:#x}");
        let _ = policy.xsave_size(value);
    }
    for rule in RULES {
        let _ = policy.read_msr(rule.first);
        for value in [0, 1, u64::MAX, 1 << 63] {
            let _ = policy.write_msr(rule.first, value);
        }
    }
    let _ = policy.read_msr(0xDEAD_BEEF);
}

/// A host's enumeration: 16 bytes for each leaf in turn, and 8 for each MSR, again from the start at the end.
pub fn host(data: &[u8]) {
    if data.len() < 16 {
        return;
    }
    let at = |index: u32, len: usize| (index.wrapping_mul(0x9E37_79B1) as usize) % (data.len() + 1 - len);
    let cpuid = |leaf: u32, subleaf: u32| {
        // The ranges end where they do on real CPUs: what is behind them comes from the input all the same.
        let from = at(leaf ^ subleaf << 16, 16);
        let word =
            |i: usize| u32::from_le_bytes(data[from + 4 * i..from + 4 * i + 4].try_into().expect("4 bytes"));
        [word(0), word(1), word(2), word(3)]
    };
    let msr = |index: u32| {
        let from = at(index, 8);
        (index & 1 == 0).then(|| u64::from_le_bytes(data[from..from + 8].try_into().expect("8 bytes")))
    };
    let host = HostPolicy::from_reader(cpuid, msr);
    let given: Vec<&str> = host.levels().map(|level| level.name).collect();
    for level in LEVELS {
        match GuestPolicy::render(level, SHAPE, &host) {
            Ok(policy) => {
                assert!(given.contains(&level.name));
                assert_eq!(GuestPolicy::decode(&policy.encode()), Ok(policy));
            }
            Err(error) => assert!(!given.contains(&level.name) && !error.to_string().is_empty(), "{error}"),
        }
    }
}

/// What another member of a pool says of its CPU.
pub fn peer(data: &[u8]) {
    match HostPolicy::decode(data) {
        Ok(host) => {
            assert_eq!(HostPolicy::decode(&host.encode()).as_ref(), Ok(&host), "it changes on its way");
            let (own, pool) = (host_of(LEVELS[0]), Baseline::of(&host));
            let both = pool.and(&Baseline::of(&own));
            assert_eq!(both, Baseline::of(&own).and(&pool));
            let _ = (Baseline::costs(&[&host, &own]), both.name(), host.level_names());
            if let Ok(guest) = GuestPolicy::render_baseline(&pool, SHAPE, &host) {
                assert_eq!(guest.fits(&host), Ok(()));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A dump of a CPU: the console's, or what `cpuid -r` printed.
pub fn dump(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Dump::parse(&text) {
        Ok(dump) => {
            let again = Dump::parse(&dump.to_string()).expect("what is printed is read");
            assert_eq!((&again.cpu, &again.host, again.tsc_hz), (&dump.cpu, &dump.host, dump.tsc_hz));
            let host = dump.policy();
            for sense in Sense::ALL {
                let _ = Subject::host(&dump.host, &host, sense).to_string();
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Each level as it travels.
pub(crate) fn made_seeds() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let guests = LEVELS.iter().map(|level| {
        let policy = GuestPolicy::render(level, SHAPE, &host_of(level));
        let policy = policy.unwrap_or_else(|error| panic!("{}: {error}", level.name));
        ("cpu_policy", level.name, policy.encode())
    });
    let hosts = LEVELS.iter().map(|level| ("cpu_peer", level.name, host_of(level).encode()));
    let dumps = LEVELS.iter().map(|level| {
        let dump = Dump::of(level.name, &host_of(level).with_tsc_hz(2_000_000_000));
        ("cpu_dump", level.name, dump.to_string().into_bytes())
    });
    let ledgers = LEVELS.iter().map(|level| {
        let host = host_of(level);
        let guest = GuestPolicy::render(LEVELS[0], SHAPE, &host);
        let ledger = guest.ok().map(|guest| Ledger::new(&guest, &host));
        ("cpu_ledger", level.name, Companion { ledger, seen: Some(vec![0xa0]) }.encode())
    });
    guests.chain(hosts).chain(dumps).chain(ledgers)
}
