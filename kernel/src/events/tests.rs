//! What is remembered of what happened.

use shell::EventKind;

use super::{get, next, tell};
use crate::guest::StopReason;
use crate::testing::host;

#[test]
fn events_are_found_by_their_number_in_the_order_they_came() {
    let _host = host();
    let first = next();
    tell(EventKind::VmMade, "a", "4 MiB");
    tell(EventKind::VmPaused, "a", "");
    assert_eq!(next(), first + 2);
    let (number, event) = get(first).unwrap();
    assert_eq!((number, event.subject.as_str(), event.detail.as_str()), (first, "a", "4 MiB"));
    assert!(matches!(get(first + 1), Some((_, event)) if event.kind == EventKind::VmPaused));
    assert!(get(next()).is_none());
}

#[test]
fn the_end_of_a_vm_is_told_with_its_reason() {
    let host = host();
    let vm = host.running("ends");
    let first = next();
    vm.ended(StopReason::Error("of a test".into()));
    let told = (first..next()).filter_map(get).find(|(_, event)| event.kind == EventKind::VmStopped);
    assert!(told.is_some_and(|(_, event)| event.subject == "ends" && event.detail.contains("of a test")));
    assert_eq!(vm.stop_reason(), Some(StopReason::Error("of a test".into())));
}
