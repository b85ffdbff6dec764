//! Who holds the network's lock asks nothing of a VM (`lock.rs`).

use crate::testing::host;

use super::NETWORK;

#[test]
#[should_panic(expected = "other CPUs are waited for while locks are held")]
fn who_holds_the_network_harvests_no_vm() {
    let host = host();
    let vm = host.running("a");
    let _network = NETWORK.lock();
    let _ = vm.harvest();
}

#[test]
#[should_panic(expected = "`a VM's translation` is taken while `card, switch and stack` is held")]
fn who_holds_the_network_takes_no_lock_of_a_vm() {
    let host = host();
    let vm = host.running("a");
    let _network = NETWORK.lock();
    drop(vm.mmu.lock());
}
