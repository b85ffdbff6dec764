use super::*;
use alloc::vec;

fn image(vcpus: u16) -> (AcpiTables, Vec<u8>) {
    let tables = build(&AcpiShape { vcpus, base: DEFAULT_BASE, pci: None });
    let mut memory = vec![0; MAX_LEN as usize];
    for (at, bytes) in &tables.pieces {
        let at = (at.0 - DEFAULT_BASE.0) as usize;
        let room = &mut memory[at..at + bytes.len()];
        assert!(room.iter().all(|&byte| byte == 0), "pieces overlap at {at:#x}");
        room.copy_from_slice(bytes);
    }
    (tables, memory)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// The table at guest-physical `gpa`, its checksum verified.
fn table_at(memory: &[u8], gpa: usize) -> &[u8] {
    let at = gpa - DEFAULT_BASE.0 as usize;
    let table = &memory[at..at + u32_at(memory, at + 4)];
    assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
    table
}

#[test]
fn every_table_is_reached_and_sums_to_zero() {
    for vcpus in [1, 2, 15, 64] {
        let (tables, memory) = image(vcpus);
        let rsdp = &memory[(tables.rsdp.0 - DEFAULT_BASE.0) as usize..];
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp[..36])), (0, 0));
        let rsdt = table_at(&memory, u32_at(rsdp, 16));
        let xsdt = table_at(&memory, u32_at(rsdp, 24));
        assert_eq!((rsdt.len(), xsdt.len()), (36 + 8, 36 + 16));
        for (i, signature) in [b"FACP", b"APIC"].into_iter().enumerate() {
            assert_eq!(u32_at(rsdt, 36 + 4 * i), u32_at(xsdt, 36 + 8 * i));
            assert_eq!(&table_at(&memory, u32_at(rsdt, 36 + 4 * i))[..4], signature);
        }
        let fadt = table_at(&memory, u32_at(rsdt, 36));
        assert_eq!(&table_at(&memory, u32_at(fadt, 40))[..4], b"DSDT");
        let facs = u32_at(fadt, 36);
        assert_eq!(facs % 64, 0);
        assert_eq!(&memory[facs - DEFAULT_BASE.0 as usize..][..4], b"FACS");
        let madt = table_at(&memory, u32_at(rsdt, 40));
        assert_eq!(madt.len(), 44 + 8 * usize::from(vcpus) + 12 + 10 + 10 + 6);
    }
}

#[test]
fn fadt_names_the_ports_of_the_platform() {
    use crate::{Effect, Whole, config};
    use vm_types::Now;
    let (tables, memory) = image(1);
    let rsdp = &memory[(tables.rsdp.0 - DEFAULT_BASE.0) as usize..];
    let fadt = table_at(&memory, u32_at(table_at(&memory, u32_at(rsdp, 16)), 36));
    let mut platform = Whole::new(&config::for_tests());
    let now = Now { tsc: 20_000_000, hz: 20_000_000 };
    let timer = u32_at(fadt, 76) as u16;
    assert_eq!(platform.io_read(timer, 4, now), 3_579_545);
    let control = u32_at(fadt, 64) as u16;
    assert_eq!(platform.io_read(control, 2, now) & 1, 1, "SCI_EN: the machine is in ACPI mode");
    assert_eq!(platform.io_write(control, 2, 5 << 10 | 1 << 13, now), Some(Effect::PowerOff));
    let reset = u32_at(fadt, 120) as u16;
    assert_eq!(platform.io_write(reset, 1, fadt[128].into(), now), Some(Effect::Reset));
}

#[test]
fn a_pci_root_is_described_where_there_is_one() {
    let with = |pci| build(&AcpiShape { vcpus: 1, base: DEFAULT_BASE, pci });
    let find = |tables: &AcpiTables, signature: &[u8]| {
        tables.pieces.iter().find(|(_, bytes)| bytes.starts_with(signature)).unwrap().1.clone()
    };
    let (off, on) = (with(None), with(Some(Gpa(0x1000_0000))));
    let dsdt = find(&on, b"DSDT");
    let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(!has(&find(&off, b"DSDT"), b"PCI0") && has(&dsdt, b"PCI0") && has(&dsdt, b"_PRT"));
    assert_eq!((sum(&dsdt), sum(&find(&on, b"FACP"))), (0, 0));
    // From the end of RAM to the byte before the IO-APIC.
    let window = [0x1000_0000u32, 0xFEBF_FFFF, 0, 0xEEC0_0000].map(u32::to_le_bytes).concat();
    assert!(has(&dsdt, &window));
    assert!(
        has(&dsdt, &[0x88, 13, 0, 1, 0x0C, 3, 0, 0, 0x00, 0x0D, 0xFF, 0xFF, 0, 0, 0x00, 0xF3]),
        "ports from 0xD00"
    );
    assert!(!has(&dsdt, &[0x47, 1, 0xF9, 0x0C]), "0xCF9 is the root's");
    // Device 3, INTB#: what the pin drives.
    assert!(has(&dsdt, &[0x12, 11, 4, 0x0C, 0xFF, 0xFF, 3, 0, 1, 0, 0x0A, crate::pci::irq(3, 2)]));
    let no_msi = |tables: &AcpiTables| find(tables, b"FACP")[109] >> 3 & 1;
    assert_eq!((no_msi(&off), no_msi(&on)), (1, 0));
    assert!(on.pieces.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < MAX_LEN as usize / 2);
}
