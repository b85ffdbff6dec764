//! A look into a guest: registers, memory, return addresses. Nothing of it is changed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use shell::{Code, Failure, Hex, MemoryAt, Output};
use vm_types::{Gpa, GuestMemory, PAGE_SIZE};
use vmx_types::state::{SegmentState, VcpuState};
use x86::EFER_LMA;
use x86_decode::{Access, AccessKind, PagingState};

use super::answer::chosen;
use super::out::{Out, json_line};
use crate::vm::Vm;

const GPRS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];
const MSRS: [&str; 5] = ["star", "lstar", "cstar", "fmask", "kernel_gs_base"];
const RBP: usize = 5;
const CS: usize = 1;
/// Access rights: the L bit of a code segment.
const LONG: u32 = 1 << 13;
/// Most return addresses of one vCPU.
const MAX_FRAMES: usize = 64;

/// The state of a vCPU, or of every one at one instant, with their numbers.
fn states(vm: &Arc<Vm>, vcpu: Option<u32>) -> Result<Vec<(usize, VcpuState)>, Failure> {
    let numbers = chosen(vm, vcpu)?;
    let states = || {
        let slots = vm.vcpus.iter().enumerate().filter(|(index, _)| numbers.contains(index));
        slots.map(|(index, slot)| (index, slot.vcpu.lock().export(vm))).collect()
    };
    vm.held(states).map_err(|why| Failure::new(Code::Failed, why))
}

/// An object for each of these vCPUs: its number, and what `fields` says of it.
fn json_vcpus<T>(
    vm: &Vm,
    vcpus: &[(usize, T)],
    out: &mut Out<'_>,
    fields: impl Fn(&T, &mut json::Object<'_>) -> core::fmt::Result,
) {
    json_line(out, |o| {
        o.field("vm", &*vm.name.get())?;
        o.array("vcpus", |a| {
            vcpus.iter().try_for_each(|(index, of)| {
                a.object(|o| {
                    o.field("vcpu", *index as u64)?;
                    fields(of, o)
                })
            })
        })
    });
}

pub(super) fn registers(
    vm: &Arc<Vm>,
    vcpu: Option<u32>,
    output: Output,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let states = states(vm, vcpu)?;
    if output == Output::Json {
        json_vcpus(vm, &states, out, json_registers);
        return Ok(());
    }
    for (index, state) in &states {
        let _ = text_registers(*index, state, out);
    }
    Ok(())
}

fn json_registers(state: &VcpuState, o: &mut json::Object<'_>) -> core::fmt::Result {
    o.field("rip", state.rip)?;
    o.field("rflags", state.rflags)?;
    for (name, value) in GPRS.iter().zip(state.gprs) {
        o.field(name, value)?;
    }
    for (name, value) in control(state) {
        o.field(name, value)?;
    }
    for (name, segment) in SEGMENTS.iter().zip(&state.segments) {
        o.object(name, |o| {
            o.field("selector", u64::from(segment.selector))?;
            o.field("base", segment.base)?;
            o.field("limit", u64::from(segment.limit))?;
            o.field("rights", u64::from(segment.rights))
        })?;
    }
    for (name, table) in [("gdtr", state.gdtr), ("idtr", state.idtr)] {
        o.object(name, |o| {
            o.field("base", table.base)?;
            o.field("limit", u64::from(table.limit))
        })?;
    }
    for (name, value) in MSRS.iter().zip(state.msrs) {
        o.field(name, value)?;
    }
    o.field("halted", state.halted)
}

fn control(state: &VcpuState) -> [(&'static str, u64); 6] {
    [
        ("cr0", state.cr0),
        ("cr2", state.cr2),
        ("cr3", state.cr3),
        ("cr4", state.cr4),
        ("efer", state.efer),
        ("xcr0", state.xcr0),
    ]
}

fn text_registers(index: usize, state: &VcpuState, out: &mut Out<'_>) -> core::fmt::Result {
    let halted = if state.halted { ", halted" } else { "" };
    writeln!(out, "vcpu {index}  rip {:016x}  rflags {:08x}{halted}", state.rip, state.rflags)?;
    let plain = GPRS.iter().copied().zip(state.gprs);
    four_a_line(&plain.collect::<Vec<_>>(), out)?;
    four_a_line(&control(state), out)?;
    for (name, SegmentState { selector, base, limit, rights }) in SEGMENTS.iter().zip(&state.segments) {
        writeln!(
            out,
            "  {name:<4} {selector:04x}  base {base:016x}  limit {limit:08x}  rights {rights:05x}"
        )?;
    }
    for (name, table) in [("gdtr", state.gdtr), ("idtr", state.idtr)] {
        writeln!(out, "  {name:<4}       base {:016x}  limit {:08x}", table.base, table.limit)?;
    }
    let msrs = MSRS.iter().copied().zip(state.msrs);
    four_a_line(&msrs.collect::<Vec<_>>(), out)
}

fn four_a_line(registers: &[(&str, u64)], out: &mut Out<'_>) -> core::fmt::Result {
    // 80 columns hold three.
    for line in registers.chunks(3) {
        out.write_str(" ")?;
        for (name, value) in line {
            write!(out, " {name:<4} {value:016x}")?;
        }
        out.write_str("\n")?;
    }
    Ok(())
}

fn paging(vm: &Vm, state: &VcpuState) -> PagingState {
    PagingState {
        cr0: state.cr0,
        cr3: state.cr3,
        cr4: state.cr4,
        efer: state.efer,
        pdptes: state.pdptes.unwrap_or_default(),
        phys_bits: vm.policy().phys_bits(),
    }
}

/// Reads as the guest's kernel would.
fn read_virtual(vm: &Vm, paging: &PagingState, at: u64, to: &mut [u8]) -> Result<(), String> {
    let access = Access { kind: AccessKind::Read, user: false, ac: true, pkru: 0 };
    let mut done = 0;
    while done < to.len() {
        let linear = at.wrapping_add(done as u64);
        let in_page = (PAGE_SIZE - linear % PAGE_SIZE) as usize;
        let end = to.len().min(done + in_page);
        let fault = |why: String| format!("virtual {linear:#x}: {why}");
        let gpa = x86_decode::walk(&vm.memory, paging, linear, access)
            .map_err(|error| fault(format!("{error}")))?;
        let piece = to.get_mut(done..end).unwrap_or_default();
        vm.memory.read(gpa, piece).map_err(|error| fault(format!("{error}")))?;
        done = end;
    }
    Ok(())
}

pub(super) fn memory(
    vm: &Arc<Vm>,
    at: MemoryAt,
    length: u64,
    output: Output,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let mut bytes = alloc::vec![0; usize::try_from(length).unwrap_or(0)];
    let failed = |why: String| Failure::new(Code::Failed, why);
    let start = match at {
        MemoryAt::Physical(at) => {
            vm.memory.read(Gpa(at), &mut bytes).map_err(|error| failed(format!("{error}")))?;
            at
        }
        MemoryAt::Virtual(at) => {
            let states = states(vm, Some(0))?;
            let first = states.first().map(|(_, state)| paging(vm, state));
            let paging = first.ok_or_else(|| failed("it has no vCPU".into()))?;
            read_virtual(vm, &paging, at, &mut bytes).map_err(failed)?;
            at
        }
    };
    if output == Output::Json {
        json_line(out, |o| {
            o.field("address", start)?;
            o.field("virtual", matches!(at, MemoryAt::Virtual(_)))?;
            o.field("length", length)?;
            o.field("bytes", Hex(&bytes).to_string().as_str())
        });
        return Ok(());
    }
    // As many digits as the last address needs, and as many bytes as a row of a terminal then holds.
    let (digits, places) = match start.wrapping_add(length) {
        0..0x1_0000_0000 => (8, 16),
        0x1_0000_0000..0x1_0000_0000_0000 => (12, 16),
        _ => (16, 8),
    };
    for (number, line) in bytes.chunks(places).enumerate() {
        let at = start.wrapping_add((places * number) as u64);
        let _ = write!(out, "{at:0digits$x} ").and_then(|()| hex_line(line, places, out));
    }
    Ok(())
}

fn hex_line(bytes: &[u8], places: usize, out: &mut Out<'_>) -> core::fmt::Result {
    for place in 0..places {
        match bytes.get(place) {
            Some(byte) => write!(out, " {byte:02x}")?,
            None => out.write_str("   ")?,
        }
    }
    out.write_str("  ")?;
    for byte in bytes {
        out.write_char(if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })?;
    }
    out.write_str("\n")
}

pub(super) fn stack(
    vm: &Arc<Vm>,
    vcpu: Option<u32>,
    output: Output,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let states = states(vm, vcpu)?;
    let stacks: Vec<(usize, Vec<u64>)> =
        states.iter().map(|(index, state)| (*index, frames(vm, state))).collect();
    if output == Output::Json {
        json_vcpus(vm, &stacks, out, |addresses, o| {
            o.array("addresses", |a| a.items(addresses.iter().copied()))
        });
        return Ok(());
    }
    for (index, addresses) in &stacks {
        let _ = writeln!(out, "vcpu {index}, by frame pointers (best effort):");
        for address in addresses {
            let _ = writeln!(out, "  {address:016x}");
        }
    }
    Ok(())
}

/// RIP, then the return address of each frame that RBP leads to, outwards: frames lie at ever higher addresses.
fn frames(vm: &Vm, state: &VcpuState) -> Vec<u64> {
    let mut found = Vec::from([state.rip]);
    let long = state.efer & EFER_LMA != 0 && state.segments[CS].rights & LONG != 0;
    let (paging, size) = (paging(vm, state), if long { 8 } else { 4 });
    let mut frame = state.gprs[RBP];
    while found.len() < MAX_FRAMES && frame != 0 {
        let mut words = [0; 16];
        if read_virtual(vm, &paging, frame, &mut words[..2 * size]).is_err() {
            break;
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&words[at * size..][..size]);
            u64::from_le_bytes(bytes)
        };
        let (next, back) = (word(0), word(1));
        if back == 0 {
            break;
        }
        found.push(back);
        if next <= frame {
            break;
        }
        frame = next;
    }
    found
}
