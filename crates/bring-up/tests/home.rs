//! Fault 2.22: a CPU on which VMX could not be switched on was given VMs, which never ran.

use bring_up::home::next;

fn homes(vmx: &[usize], vms: usize) -> Vec<Option<usize>> {
    (0..vms).map(|placed| next(4, |cpu| vmx.contains(&cpu), placed)).collect()
}

#[test]
fn vms_go_to_cpus_with_vmx_in_turn() {
    assert_eq!(homes(&[0, 1, 2, 3], 4), [1, 2, 3, 1].map(Some));
    assert_eq!(homes(&[0, 2], 3), [2, 2, 2].map(Some), "CPU 1 has no VMX");
    assert_eq!(homes(&[0, 1, 3], 4), [1, 3, 1, 3].map(Some));
}

#[test]
fn cpu_0_takes_them_where_nobody_else_can() {
    assert_eq!(homes(&[0], 2), [0, 0].map(Some));
}

#[test]
fn none_where_no_cpu_can() {
    assert_eq!(homes(&[], 1), [None]);
}
