//! Tables made by hand, and the same damaged.

use acpi_tables::{Acpi, AcpiError, AddressSpace, NodeMemory, Registers, Rsdp, find_rsdp};
use proptest::prelude::*;

const BASE: u64 = 0x7fe_0000;
const SLOT: usize = 512;

fn view<'m>(bytes: &'m [u8], base: u64) -> impl Fn(u64, usize) -> Option<&'m [u8]> {
    move |address: u64, len: usize| {
        let at = usize::try_from(address.checked_sub(base)?).ok()?;
        bytes.get(at..at.checked_add(len)?)
    }
}

fn fix(table: &mut [u8]) {
    table[9] = 0;
    table[9] = table.iter().fold(0_u8, |sum, b| sum.wrapping_sub(*b));
}

fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut t = vec![0; 36];
    t[..4].copy_from_slice(signature);
    t[8] = revision;
    t.extend_from_slice(body);
    let len = (t.len() as u32).to_le_bytes();
    t[4..8].copy_from_slice(&len);
    fix(&mut t);
    t
}

fn madt() -> Vec<u8> {
    let mut body = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]); // CPU 0
    body.extend([0, 8, 1, 2, 0, 0, 0, 0]); // CPU 2, not enabled
    body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]); // x2APIC id 256
    body.extend([9, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // CPU 0 again
    body.extend([1, 12, 4, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([4, 6, 0xff, 0, 0, 1]);
    table(b"APIC", 3, &body)
}

fn fadt() -> Vec<u8> {
    let mut t = table(b"FACP", 3, &[0; 208]);
    t[46] = 9;
    t[64..68].copy_from_slice(&0xb004_u32.to_le_bytes());
    t[76..80].copy_from_slice(&0xb008_u32.to_le_bytes());
    t[109] = 2;
    t[112..116].copy_from_slice(&(1_u32 << 10).to_le_bytes());
    t[116..128].copy_from_slice(&[1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
    t[128] = 6;
    fix(&mut t);
    t
}

fn mcfg() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend([0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0]);
    table(b"MCFG", 1, &body)
}

fn spcr() -> Vec<u8> {
    let mut body = vec![0; 44];
    body[4..16].copy_from_slice(&[1, 8, 0, 0, 0xf8, 3, 0, 0, 0, 0, 0, 0]);
    body[22] = 7;
    table(b"SPCR", 2, &body)
}

fn dmar() -> Vec<u8> {
    let mut body = vec![45, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
    body.extend([1, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7b, 0, 0, 0, 0]);
    body.extend([1, 8, 0, 0, 0, 0, 0x1d, 0]); // 00:1d.0
    body.extend([1, 10, 0, 0, 0, 0x80, 1, 2, 0, 3]); // behind 80:01.2, 00.3
    table(b"DMAR", 1, &body)
}

/// All tables in slots of [`SLOT`] bytes behind the root table in slot 0.
fn firmware(extended: bool) -> Vec<u8> {
    let tables = [madt(), fadt(), mcfg(), spcr(), dmar()];
    let mut entries = Vec::new();
    for i in 1..=tables.len() {
        let address = BASE + (i * SLOT) as u64;
        if extended {
            entries.extend(address.to_le_bytes());
        } else {
            entries.extend((address as u32).to_le_bytes());
        }
    }
    let root = table(if extended { b"XSDT" } else { b"RSDT" }, 1, &entries);
    [root]
        .into_iter()
        .chain(tables)
        .flat_map(|mut t| {
            t.resize(SLOT, 0);
            t
        })
        .collect()
}

fn parse(bytes: &[u8], extended: bool) -> Result<Acpi, AcpiError> {
    Acpi::parse(Rsdp { root: BASE, extended }, &view(bytes, BASE))
}

#[test]
fn every_table() {
    for extended in [false, true] {
        let acpi = parse(&firmware(extended), extended).unwrap();
        assert_eq!(acpi.skipped, []);
        let madt = acpi.madt.unwrap();
        assert_eq!(madt.local_apic, 0xfee0_0000);
        assert!(madt.has_pic);
        let cpus: Vec<_> = madt.cpus.iter().map(|c| (c.apic_id, c.uid, c.enabled)).collect();
        assert_eq!(cpus, [(0, 0, true), (2, 1, false), (256, 7, true)]);
        assert_eq!((madt.io_apics[0].id, madt.io_apics[0].address), (4, 0xfec0_0000));
        assert_eq!((madt.overrides[0].source, madt.overrides[0].gsi), (0, 2));
        let fadt = acpi.fadt.unwrap();
        assert_eq!((fadt.sci, fadt.pm_timer.unwrap().address, fadt.pm_timer_32), (9, 0xb008, false));
        assert_eq!(fadt.pm1a_control.unwrap().address, 0xb004);
        let (reset, value) = fadt.reset.unwrap();
        assert_eq!((reset.space, reset.address, value), (AddressSpace::Io, 0xcf9, 6));
        assert!(fadt.has_8042);
        assert_eq!((acpi.mcfg[0].base, acpi.mcfg[0].last_bus), (0xb000_0000, 255));
        let spcr = acpi.spcr.unwrap();
        assert_eq!((spcr.interface, spcr.address.address, spcr.baud), (0, 0x3f8, Some(115_200)));
        let dmar = acpi.dmar.unwrap();
        assert_eq!((dmar.address_bits, dmar.interrupt_remapping, dmar.x2apic_opt_out), (46, true, false));
        assert_eq!((dmar.units[0].base, dmar.units[0].all_devices), (0xfed9_0000, true));
        assert_eq!((dmar.reserved[0].start, dmar.reserved[0].last), (0x7b00_0000, 0x7bff_ffff));
        let bridge = |bus, device, function| ((bus, device, function) == (0x80, 1, 2)).then_some(0x85);
        let devices: Vec<_> = dmar.reserved[0].devices.iter().map(|scope| scope.resolve(bridge)).collect();
        assert_eq!(devices, [Some((0, 0x1d, 0)), Some((0x85, 0, 3))]);
        assert_eq!(dmar.reserved[0].devices[1].resolve(|_, _, _| None), None);
    }
}

/// What a table with this content of [`spcr`]'s names.
fn port(revision: u8, change: impl Fn(&mut [u8])) -> Option<(Option<Registers>, Option<u32>)> {
    let mut body = spcr()[36..].to_vec();
    body.resize(52, 0);
    change(&mut body);
    let root = table(b"XSDT", 1, &(BASE + SLOT as u64).to_le_bytes());
    let mut bytes = root;
    bytes.resize(SLOT, 0);
    bytes.extend(table(b"SPCR", revision, &body));
    parse(&bytes, true).unwrap().spcr.map(|spcr| (spcr.uart(), spcr.baud))
}

#[test]
fn spcr_names_ports_that_a_16550_driver_can_use() {
    let address = |at: u64| move |b: &mut [u8]| b[8..16].copy_from_slice(&at.to_le_bytes());
    assert_eq!(port(2, |_| ()), Some((Some(Registers::Io(0x3f8)), Some(115_200))));
    assert_eq!(port(2, address(0x2f8)), Some((Some(Registers::Io(0x2f8)), Some(115_200))));
    // Redirection is off.
    assert_eq!(port(2, address(0)), None);
    assert_eq!(port(2, address(0x1_02f8)), Some((None, Some(115_200))));
    // In memory: 8-bit and 32-bit registers, and a width that no 16550 has.
    for (bits, want) in [
        (8, Some(Registers::Memory(0xfe03_4000, 1))),
        (32, Some(Registers::Memory(0xfe03_4000, 4))),
        (64, None),
    ] {
        let in_memory = |b: &mut [u8]| {
            (b[4], b[5]) = (0, bits);
            address(0xfe03_4000)(b);
        };
        assert_eq!(port(2, in_memory), Some((want, Some(115_200))));
    }
    // An ARM PL011, and registers in PCI configuration space.
    assert_eq!(port(2, |b| b[0] = 3).unwrap().0, None);
    assert_eq!(port(2, |b| b[0] = 0x12).unwrap().0, Some(Registers::Io(0x3f8)));
    assert_eq!(port(2, |b| b[4] = 2).unwrap().0, None);
    // Rates: as it is, unknown, and the precise one of revision 4 only.
    for code in [0, 5, 255] {
        assert_eq!(port(2, |b| b[22] = code).unwrap().1, None);
    }
    let precise = |b: &mut [u8]| b[44..48].copy_from_slice(&38_400_u32.to_le_bytes());
    assert_eq!(port(4, precise).unwrap().1, Some(38_400));
    assert_eq!(port(3, precise).unwrap().1, Some(115_200));
}

fn node_memory(node: u32, start: u64, length: u64, flags: u32) -> Vec<u8> {
    let mut r = vec![1, 40];
    r.extend(node.to_le_bytes());
    r.extend([0; 2]);
    r.extend(start.to_le_bytes());
    r.extend(length.to_le_bytes());
    r.extend([0; 4]);
    r.extend(flags.to_le_bytes());
    r.extend([0; 8]);
    r
}

/// Two sockets; a CPU's row, memory that is not there, memory that keeps what it holds, and memory past the end of all.
#[test]
fn srat_names_the_memory_of_each_node() {
    const GIB: u64 = 1 << 30;
    let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend([0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for row in [
        node_memory(0, 0, 2 * GIB, 1),
        node_memory(0, 4 * GIB, 94 * GIB, 1),
        node_memory(1, 98 * GIB, 96 * GIB, 3),
        node_memory(2, 194 * GIB, GIB, 0),
        node_memory(3, 195 * GIB, GIB, 5),
        node_memory(4, u64::MAX - 1, GIB, 1),
        node_memory(5, GIB, 0, 1),
    ] {
        body.extend(row);
    }
    body.extend([1, 40, 9]); // cut short
    let mut bytes = table(b"XSDT", 1, &(BASE + SLOT as u64).to_le_bytes());
    bytes.resize(SLOT, 0);
    bytes.extend(table(b"SRAT", 3, &body));
    let nodes = parse(&bytes, true).unwrap().nodes;
    let memory = |node, start, end| NodeMemory { node, start: start * GIB, end: end * GIB };
    assert_eq!(nodes, [memory(0, 0, 2), memory(0, 4, 98), memory(1, 98, 194)]);
}

#[test]
fn x2apic_opt_out_counts_with_interrupt_remapping_only() {
    for (flags, want) in [(0, false), (1, false), (2, false), (3, true), (7, true)] {
        let mut body = dmar()[36..].to_vec();
        body[1] = flags;
        let mut bytes = table(b"XSDT", 1, &(BASE + SLOT as u64).to_le_bytes());
        bytes.resize(SLOT, 0);
        bytes.extend(table(b"DMAR", 1, &body));
        assert_eq!(parse(&bytes, true).unwrap().dmar.unwrap().x2apic_opt_out, want, "{flags}");
    }
}

/// As firmware of a machine with two sockets of 96 CPUs each and ids in two clusters lists them: the first 255 as local
/// APICs, all as x2APICs, with slots that hold nothing.
#[test]
fn madt_of_192_cpus_with_ids_above_255() {
    let ids: Vec<u32> = (0..96_u32).map(|i| 2 * i).chain((0..96).map(|i| 0x100 + 2 * i)).collect();
    let mut body = [0xfee0_0000_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    for (uid, id) in ids.iter().enumerate().filter(|(_, id)| **id < 255) {
        body.extend([0, 8, uid as u8, *id as u8, 1, 0, 0, 0]);
    }
    body.extend([0, 8, 0xff, 0xff, 0, 0, 0, 0]);
    for (uid, id) in ids.iter().enumerate() {
        body.extend([9, 16, 0, 0]);
        body.extend(id.to_le_bytes());
        body.extend(1_u32.to_le_bytes());
        body.extend((uid as u32).to_le_bytes());
    }
    body.extend([9, 16, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = table(b"XSDT", 1, &(BASE + SLOT as u64).to_le_bytes());
    bytes.resize(SLOT, 0);
    bytes.extend(table(b"APIC", 5, &body));
    let madt = parse(&bytes, true).unwrap().madt.unwrap();
    let enabled: Vec<u32> = madt.cpus.iter().filter(|cpu| cpu.enabled).map(|cpu| cpu.apic_id).collect();
    let mut want = ids.clone();
    want.sort_unstable();
    let mut found = enabled.clone();
    found.sort_unstable();
    assert_eq!(found, want, "each CPU once, whichever way it is listed");
    assert!(enabled.contains(&0x1be) && !enabled.contains(&u32::MAX));
}

#[test]
fn damaged_table_is_skipped_by_name() {
    let mut bytes = firmware(true);
    bytes[SLOT + 50] ^= 1;
    let acpi = parse(&bytes, true).unwrap();
    assert!(acpi.madt.is_none() && acpi.fadt.is_some());
    assert_eq!((&acpi.skipped[0].signature, acpi.skipped[0].address), (b"APIC", BASE + SLOT as u64));
}

#[test]
fn damaged_root_is_an_error() {
    let mut bytes = firmware(true);
    bytes[40] ^= 1;
    assert_eq!(parse(&bytes, true), Err(AcpiError::Root(BASE)));
    assert_eq!(parse(&firmware(true), false), Err(AcpiError::Root(BASE)));
}

#[test]
fn rsdp_is_found_in_bios_memory() {
    let mut rsdp = *b"RSD PTR \0BOCHS \0\0\0\xfe\x07";
    rsdp[8] = rsdp.iter().fold(0_u8, |sum, b| sum.wrapping_sub(*b));
    let mut low = vec![0; 0x10_0000];
    low[0xf_0040..0xf_0040 + 20].copy_from_slice(&rsdp);
    let found = find_rsdp(&view(&low, 0)).unwrap();
    assert_eq!((found.root, found.extended), (BASE, false));
    low[0xf_0044] ^= 1;
    assert_eq!(find_rsdp(&view(&low, 0)), None);
    low[0xf_0044] ^= 1;
    low[0xf_0050] ^= 1;
    assert_eq!(find_rsdp(&view(&low, 0)), None);
}

proptest! {
    /// Whatever is in a table, with its checksum right: a value, no panic.
    #[test]
    fn arbitrary_tables(slot in 1_usize..6, at in 36_usize..300, bytes in prop::collection::vec(any::<u8>(), 1..100),
                        len in 36_u32..600) {
        let mut memory = firmware(true);
        let start = slot * SLOT;
        let end = (at + bytes.len()).min(SLOT);
        memory[start + at..start + end].copy_from_slice(&bytes[..end - at]);
        memory[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        let end = (start + len as usize).min(memory.len());
        fix(&mut memory[start..end]);
        let _ = parse(&memory, true);
    }

    #[test]
    fn arbitrary_memory(bytes in prop::collection::vec(any::<u8>(), 0..2000), extended in any::<bool>()) {
        let _ = parse(&bytes, extended);
        let _ = find_rsdp(&view(&bytes, 0xe_0000));
        let _ = Rsdp::parse(&bytes);
    }
}
