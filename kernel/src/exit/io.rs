//! Port I/O: the devices answer; an unclaimed port reads all ones.

use vmx_types::qualification::IoAccess;

use super::{Next, emulate};
use crate::guest::Guest;
use crate::vcpu::Vcpu;
use hw::vmx::vmcs::Current;

const RAX: usize = 0;

const fn mask(size: u8) -> u64 {
    (1 << (8 * size as u32)) - 1
}

/// IN, OUT, INS, OUTS.
#[inline(never)]
pub(super) fn handle(vcpu: &mut Vcpu, vm: &Guest, vmcs: Current<'_>, io: IoAccess) -> Next {
    if io.string {
        // One element an exit. The memory operand is still unchecked: the exit comes before its faults (SDM 25.1.1).
        return emulate::handle(vcpu, vm, vmcs, None);
    }
    if io.read {
        let read = vcpu.on_board(vm, |platform, now| platform.io_read(io.port, io.size, now));
        let value = u64::from(read) & mask(io.size);
        let rax = &mut vcpu.context.gprs[RAX];
        // a 32-bit destination clears the upper half, smaller ones leave the rest (SDM volume 1, 3.4.1.1)
        *rax = if io.size == 4 { value } else { *rax & !mask(io.size) | value };
        return Next::Advance;
    }
    let value = (vcpu.context.gprs[RAX] & mask(io.size)) as u32;
    let effect = vcpu.on_board(vm, |platform, now| platform.io_write(io.port, io.size, value, now));
    match effect {
        None => Next::Advance,
        Some(effect) => super::effect(vcpu, vm, effect),
    }
}
