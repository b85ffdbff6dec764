//! Port I/O: the devices answer; an unclaimed port reads all ones.

use vm_types::GuestMemory;
use vmx_types::field;
use vmx_types::qualification::IoAccess;

use super::{Next, memory};
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::vmx::vmcs::Current;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RSI: u8 = 6;
const RDI: u8 = 7;
const RFLAGS_DF: u64 = 1 << 10;

const fn mask(size: u8) -> u64 {
    (1 << (8 * size as u32)) - 1
}

/// IN, OUT, INS, OUTS.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current, io: IoAccess) -> Next {
    if io.string {
        return string(vcpu, vm, vmcs, io);
    }
    let rax = &mut vcpu.context.gprs[RAX as usize];
    if io.read {
        let mut platform = vm.platform.lock();
        let value = u64::from(platform.io_read(io.port, io.size, vm.clock.now())) & mask(io.size);
        // a 32-bit destination clears the upper half, smaller ones leave the rest (SDM volume 1, 3.4.1.1)
        *rax = if io.size == 4 { value } else { *rax & !mask(io.size) | value };
        vcpu.watch(&platform);
        return Next::Advance;
    }
    let value = (*rax & mask(io.size)) as u32;
    write(vm, vcpu, io, value)
}

fn write(vm: &Vm, vcpu: &mut Vcpu, io: IoAccess, value: u32) -> Next {
    let mut platform = vm.platform.lock();
    let effect = platform.io_write(io.port, io.size, value, vm.clock.now());
    vcpu.watch(&platform);
    drop(platform);
    match effect {
        None => Next::Advance,
        Some(effect) => vcpu.effect(vm, effect),
    }
}

/// One element of INS or OUTS an exit; REP stays on the instruction until RCX is 0.
#[cold]
fn string(vcpu: &mut Vcpu, vm: &Vm, vmcs: Current, io: IoAccess) -> Next {
    let size = usize::from(io.size);
    // address size: instruction information bits 9:7 (SDM table 27-12)
    let address_mask = match vmcs.read(field::EXIT_INSTRUCTION_INFO) >> 7 & 7 {
        0 => 0xffff,
        1 => 0xffff_ffff,
        _ => u64::MAX,
    };
    let count = vcpu.gpr(vmcs, RCX) & address_mask;
    if io.rep && count == 0 {
        return Next::Advance;
    }
    let linear = vmcs.read(field::GUEST_LINEAR_ADDRESS);
    let mut bytes = [0; 4];
    let mut next = Next::Advance;
    let translated = memory::translate(vcpu, vm, vmcs, linear, io.read);
    let gpa = match translated {
        Ok(gpa) => gpa,
        Err(fault) => return fault,
    };
    if io.read {
        let mut platform = vm.platform.lock();
        let value = platform.io_read(io.port, io.size, vm.clock.now());
        vcpu.watch(&platform);
        drop(platform);
        // Into a hole, the bytes go nowhere, as on a bus.
        let _ = vm.memory.write(gpa, &value.to_le_bytes()[..size]);
    } else {
        if vm.memory.read(gpa, &mut bytes[..size]).is_err() {
            bytes = [0xff; 4];
        }
        next = write(vm, vcpu, io, u32::from_le_bytes(bytes) & mask(io.size) as u32);
    }
    let step = if vmcs.read(field::GUEST_RFLAGS) & RFLAGS_DF != 0 {
        (size as u64).wrapping_neg()
    } else {
        size as u64
    };
    let pointer = if io.read { RDI } else { RSI };
    let old = vcpu.gpr(vmcs, pointer);
    let moved = old.wrapping_add(step) & address_mask | old & !address_mask;
    vcpu.set_gpr(vmcs, pointer, moved);
    if io.rep {
        let rcx = vcpu.gpr(vmcs, RCX);
        let left = count - 1;
        vcpu.set_gpr(vmcs, RCX, rcx & !address_mask | left);
        if left != 0 && matches!(next, Next::Advance) {
            return Next::Resume;
        }
    }
    next
}
