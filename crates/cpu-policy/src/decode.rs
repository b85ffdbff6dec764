//! A policy that came from outside, and its checks.

use crate::feature::{ARCH_CAPABILITIES, FEATURES, FeatureSet, Kind, PLATFORM_INFO, Place, Reg};
use crate::host::VENDOR;
use crate::leaves::{self, xsave_rows};
use crate::msr::{MsrClass, MsrValues, RULES};
use crate::policy::{GuestPolicy, Shape};
use crate::render::{check_shape, check_vcpus};
use crate::table::{CpuidTable, Row};
use crate::wire::{DecodeError, MAX_ENCODED, VERSION, Wire};
use vm_types::Topology;

const REGS: [Reg; 4] = [Reg::Eax, Reg::Ebx, Reg::Ecx, Reg::Edx];
const MAX_NAME: usize = 32;
/// HTT: follows from the number of vCPUs of a package.
const HTT: u64 = 1 << 28;
/// CPUID faulting, in MSR_PLATFORM_INFO.
const FAULTING: u64 = 1 << 31;
const LEAF1_EDX: Place = Place::Cpuid { leaf: 1, subleaf: 0, reg: Reg::Edx };

impl GuestPolicy {
    /// Reads and checks a policy: it is one that a host of this version could have rendered from some level.
    ///
    /// # Errors
    /// What is wrong, by field and value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED {
            return Err(DecodeError::Length(bytes.len()));
        }
        let mut decoder = minicbor::Decoder::new(bytes);
        // The version first: of another one nothing else need be readable.
        let version = peek_version(bytes).ok_or(DecodeError::Malformed(0))?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let wire: Wire = decoder.decode().map_err(|_| DecodeError::Malformed(decoder.position()))?;
        if decoder.position() != bytes.len() {
            return Err(DecodeError::Trailing(bytes.len() - decoder.position()));
        }
        checked(wire)
    }
}

#[derive(minicbor::Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    version: u16,
}

fn peek_version(bytes: &[u8]) -> Option<u16> {
    let head: Head = minicbor::decode(bytes).ok()?;
    Some(head.version)
}

fn checked(wire: Wire) -> Result<GuestPolicy, DecodeError> {
    let name = wire.level.as_bytes();
    let legal = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(legal) {
        return Err(DecodeError::LevelName);
    }
    check_vcpus(wire.vcpus)?;
    let mut shape = Shape {
        topology: Topology::flat(wire.vcpus),
        tsc_hz: wire.tsc_hz,
        apic_hz: wire.apic_hz,
        phys_bits: None,
    };
    check_shape(&shape)?;
    let table = CpuidTable::new(wire.rows)?;
    ranges(&table)?;
    let values = MsrValues(wire.msrs);
    let features = features(&table, &values)?;
    contradictions(features)?;
    msrs(&values, features)?;
    xsave(&table, features)?;
    shape.topology = topology(&table, wire.vcpus)?;
    Ok(GuestPolicy::assemble(wire.level, wire.level_version, shape, table, features, values))
}

fn wrong(leaf: u32, subleaf: u32, why: &'static str) -> DecodeError {
    DecodeError::Row { leaf, subleaf, why }
}

/// Leaf 0 and 80000000 are there, name Intel, and bound the others.
fn ranges(table: &CpuidTable) -> Result<(), DecodeError> {
    let word = |at: usize| u32::from_le_bytes([VENDOR[at], VENDOR[at + 1], VENDOR[at + 2], VENDOR[at + 3]]);
    let [max, ebx, ecx, edx] = REGS.map(|reg| table.reg(0, 0, reg));
    if [ebx, edx, ecx] != [word(0), word(4), word(8)] {
        return Err(wrong(0, 0, "not GenuineIntel"));
    }
    let max_extended = table.reg(0x8000_0000, 0, Reg::Eax);
    if max_extended < 0x8000_0008 {
        return Err(wrong(0x8000_0000, 0, "no leaf 80000008"));
    }
    let max_hypervisor = table.reg(0x4000_0000, 0, Reg::Eax);
    for row in table.rows() {
        let max = [max, max_hypervisor, max_extended][(row.leaf >> 30) as usize % 3];
        if row.leaf > max {
            return Err(wrong(row.leaf, row.subleaf, "beyond the highest leaf"));
        }
        if row.leaf == 7 && row.subleaf > table.reg(7, 0, Reg::Eax) {
            return Err(wrong(row.leaf, row.subleaf, "beyond the highest sub-leaf"));
        }
    }
    let widths = table.reg(0x8000_0008, 0, Reg::Eax);
    if !(32..=52).contains(&(widths & 0xff)) || widths >> 8 != 48 {
        return Err(wrong(0x8000_0008, 0, "address widths"));
    }
    Ok(())
}

/// The features that the table enumerates; every bit of such a register is known.
fn features(table: &CpuidTable, values: &MsrValues) -> Result<FeatureSet, DecodeError> {
    let mut features = FeatureSet::EMPTY;
    let mut place = None;
    for row in FEATURES {
        let bits = match row.place {
            Place::Cpuid { leaf, subleaf, reg } => u64::from(table.reg(leaf, subleaf, reg)),
            Place::Msr(index) if index == ARCH_CAPABILITIES => values.get(index).unwrap_or(0),
            // The rest of it is ratios.
            Place::Msr(index) if index == PLATFORM_INFO => values.get(index).unwrap_or(0) & FAULTING,
            Place::Msr(_) => 0,
        };
        if place != Some(row.place) {
            place = Some(row.place);
            let beside = if row.place == LEAF1_EDX { HTT } else { 0 };
            let known = row.place.rows().iter().filter(|r| r.kind != Kind::Derived);
            let known = known.fold(beside, |known, r| known | 1 << r.bit);
            if bits & !known != 0 {
                return Err(DecodeError::UnknownBits { place: row.place, bits: bits & !known });
            }
        }
        if row.kind != Kind::Derived && bits & 1 << row.bit != 0 {
            features.insert(row.feature);
        }
    }
    Ok(features)
}

/// The set is closed, losses included.
fn contradictions(features: FeatureSet) -> Result<(), DecodeError> {
    for feature in features.iter() {
        if let Some(need) = feature.info().needs.iter().find(|need| !features.contains(**need)) {
            return Err(DecodeError::Contradiction { feature, need: *need });
        }
    }
    Ok(())
}

/// Exactly the constant MSRs that these features bring, once each and in order.
fn msrs(values: &MsrValues, features: FeatureSet) -> Result<(), DecodeError> {
    let mut expected = RULES
        .iter()
        .filter(|rule| rule.class == MsrClass::Constant && rule.offered(features))
        .map(|r| r.first);
    for (index, _) in &values.0 {
        if expected.next() != Some(*index) {
            return Err(DecodeError::Msr(*index));
        }
    }
    expected.next().map_or(Ok(()), |missing| Err(DecodeError::Msr(missing)))
}

/// Leaf D is what we would compute.
fn xsave(table: &CpuidTable, features: FeatureSet) -> Result<(), DecodeError> {
    let ours = xsave_rows(features);
    let theirs = table.rows().iter().filter(|row| row.leaf == 0xd);
    if theirs.clone().count() != ours.len() {
        return Err(wrong(0xd, 0, "number of sub-leaves"));
    }
    match theirs.zip(&ours).find(|(theirs, ours)| theirs != ours) {
        Some((row, _)) => Err(wrong(0xd, row.subleaf, "XSAVE layout")),
        None => Ok(()),
    }
}

/// How many packages, cores and threads the table tells of, and that all of it agrees. The table is what travels: a host of the
/// version before serves one that it could not have made, or refuses leaf 1 by its number of processors, and gives it on as it is.
fn topology(table: &CpuidTable, vcpus: u32) -> Result<Topology, DecodeError> {
    let processors = || wrong(1, 0, "number of processors");
    let cores_of = |row: &Row| row.regs[0] >> 26;
    // What is filled in per vCPU is empty.
    let per_socket = table.reg(1, 0, Reg::Ebx) >> 16;
    if per_socket == 0 || !vcpus.is_multiple_of(per_socket) {
        return Err(processors());
    }
    let caches = || table.rows().iter().filter(|row| row.leaf == 4);
    // Without leaf 4 nothing tells cores and threads apart; none of our levels is without.
    let core_ids = caches().next().map_or(per_socket, |row| cores_of(row) + 1);
    let threads = match core_ids {
        0 | 1 => per_socket,
        ids => per_socket.next_power_of_two() / ids.next_power_of_two(),
    };
    let cores = per_socket.checked_div(threads).unwrap_or(0);
    let topology = Topology { sockets: vcpus / per_socket, cores, threads };
    topology.check(vcpus).map_err(|_| processors())?;
    if table.reg(1, 0, Reg::Edx) >> 28 & 1 != u32::from(per_socket > 1) {
        return Err(processors());
    }
    for row in caches() {
        let shared = row.regs[0] & 0xfff << 14;
        if row.regs[0] & 0x3f << 26 != leaves::core_ids(&topology)
            || !leaves::sharing(&topology).contains(&shared)
        {
            return Err(wrong(4, row.subleaf, "topology"));
        }
    }
    for leaf in [0xb, 0x1f] {
        let expected = leaves::topology_rows(leaf, &topology);
        let mut rows = table.rows().iter().filter(|row| row.leaf == leaf).peekable();
        if rows.peek().is_some() && !rows.clone().eq(&expected) {
            let odd = rows.clone().zip(&expected).find(|(theirs, ours)| theirs != ours);
            return Err(wrong(leaf, odd.map_or(2, |(row, _)| row.subleaf), "topology"));
        }
    }
    Ok(topology)
}
