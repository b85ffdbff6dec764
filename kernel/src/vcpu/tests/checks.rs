//! `check=entry`.

use alloc::boxed::Box;

use vmx_types::field;
use vmx_types::reason::ExitReason;

use crate::guest::StopReason;
use crate::run::Outcome;
use crate::testing::host;
use crate::vcpu::check;

#[test]
fn an_entry_that_the_cpu_would_refuse_ends_the_vm_with_the_rule() {
    let host = host();
    let vm = host.running("a");
    // The memory of the machine made up lies where this process has it.
    check::on_this_host(47);
    vm.vcpus[0].vcpu.lock().vcpu.checker = Some(Box::default());
    let good = host.run(&vm);
    let after = host.exit(&vm, |guest| {
        guest.set(field::GUEST_RFLAGS, 0);
        guest.exits(ExitReason::Cpuid as u32, 2);
    });
    check::on_this_host(0);
    assert!(matches!(good, Outcome::Yield), "it is as VM entry wants it: {good:?}");
    assert!(matches!(after.stopped(), StopReason::Error(why) if why.contains("RFLAGS")), "{after:?}");
    assert!(after.back.is_none());
}
