//! The code that chooses the controls, driven by what KVM lends a guest hypervisor (nested VMX).
//!
//! `qemu-models.txt` is recorded from QEMU. A model's capability MSRs follow from it by QEMU's rule: the features are
//! the bits that may be 1; to them come the default1 bits of SDM A.2 that KVM insists on, write-back for paging structures
//! and a 64-bit host. KVM of Linux 5.19 lends nothing of these models that it cannot do itself, nor TSC scaling, mode-based
//! execute control and tertiary controls, which are in no model.

use std::collections::BTreeMap;
use vmx_types::capability::{Caps, MSRS, NoVmx};
use vmx_types::control::{ExitControls, MissingControls, PinBased, ProcBased2};
use vmx_types::controls::Controls;
use vmx_types::slice::{Choice, SliceTimer};

const PIN: u32 = 0x48d;
const PROC: u32 = 0x48e;
const EXIT: u32 = 0x48f;
const ENTRY: u32 = 0x490;
const PROC2: u32 = 0x48b;
const EPT_VPID: u32 = 0x48c;
const OTHER: u32 = 0;

/// QEMU's name of a feature, the MSR it is in, the bit of the control word or of the capability.
const NAMES: &[(&str, u32, u32)] = &[
    ("intr-exit", PIN, 0),
    ("nmi-exit", PIN, 3),
    ("vnmi", PIN, 5),
    ("preemption-timer", PIN, 6),
    ("posted-intr", PIN, 7),
    ("vintr-pending", PROC, 2),
    ("tsc-offset", PROC, 3),
    ("hlt-exit", PROC, 7),
    ("invlpg-exit", PROC, 9),
    ("mwait-exit", PROC, 10),
    ("rdpmc-exit", PROC, 11),
    ("rdtsc-exit", PROC, 12),
    ("cr3-load-noexit", OTHER, 0),
    ("cr3-store-noexit", OTHER, 0),
    ("cr8-load-exit", PROC, 19),
    ("cr8-store-exit", PROC, 20),
    ("flexpriority", PROC, 21),
    ("vnmi-pending", PROC, 22),
    ("movdr-exit", PROC, 23),
    ("io-exit", PROC, 24),
    ("io-bitmap", PROC, 25),
    ("mtf", PROC, 27),
    ("msr-bitmap", PROC, 28),
    ("monitor-exit", PROC, 29),
    ("pause-exit", PROC, 30),
    ("secondary-ctls", PROC, 31),
    ("apicv-xapic", PROC2, 0),
    ("ept", PROC2, 1),
    ("desc-exit", PROC2, 2),
    ("rdtscp-exit", PROC2, 3),
    ("apicv-x2apic", PROC2, 4),
    ("vpid", PROC2, 5),
    ("wbinvd-exit", PROC2, 6),
    ("unrestricted-guest", PROC2, 7),
    ("apicv-register", PROC2, 8),
    ("apicv-vid", PROC2, 9),
    ("rdrand-exit", PROC2, 11),
    ("invpcid-exit", PROC2, 12),
    ("vmfunc", PROC2, 13),
    ("shadow-vmcs", PROC2, 14),
    ("rdseed-exit", PROC2, 16),
    ("pml", PROC2, 17),
    ("exit-nosave-debugctl", OTHER, 0),
    ("exit-load-perf-global-ctrl", EXIT, 12),
    ("exit-ack-intr", EXIT, 15),
    ("exit-save-pat", EXIT, 18),
    ("exit-load-pat", EXIT, 19),
    ("exit-save-efer", EXIT, 20),
    ("exit-load-efer", EXIT, 21),
    ("exit-save-preemption-timer", EXIT, 22),
    ("entry-noload-debugctl", OTHER, 0),
    ("entry-ia32e-mode", ENTRY, 9),
    ("entry-load-perf-global-ctrl", ENTRY, 13),
    ("entry-load-pat", ENTRY, 14),
    ("entry-load-efer", ENTRY, 15),
    ("ept-execonly", EPT_VPID, 0),
    ("page-walk-4", EPT_VPID, 6),
    ("ept-2mb", EPT_VPID, 16),
    ("ept-1gb", EPT_VPID, 17),
    ("invept", EPT_VPID, 20),
    ("eptad", EPT_VPID, 21),
    // QEMU gives one name to the single-context forms of INVEPT and INVVPID
    ("invept-single-context", EPT_VPID, 25),
    ("invept-single-context", EPT_VPID, 41),
    ("invept-all-context", EPT_VPID, 26),
    ("invvpid", EPT_VPID, 32),
    ("invvpid-single-addr", EPT_VPID, 40),
    ("invvpid-all-context", EPT_VPID, 42),
    ("invept-single-context-noglobals", EPT_VPID, 43),
    ("activity-hlt", OTHER, 0),
    ("eptp-switching", OTHER, 0),
    ("ins-outs", OTHER, 0),
    ("store-lma", OTHER, 0),
    ("true-ctls", OTHER, 0),
    ("vmwrite-vmexit-fields", OTHER, 0),
];

/// Bits that must be 1 by the TRUE capability MSRs.
const MUST: [(u32, u32); 4] = [(PIN, 0x16), (PROC, 0x0400_6172), (EXIT, 0x0003_6dfb), (ENTRY, 0x11fb)];

type Msrs = BTreeMap<u32, u64>;

/// The features of each model.
fn models() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut models: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in include_str!("qemu-models.txt").lines().filter(|line| !line.starts_with('#')) {
        let features = match line.split_once(':') {
            Some((model, features)) => {
                name = model;
                features
            }
            None => line,
        };
        models.entry(name).or_default().extend(features.split_whitespace());
    }
    let common = models.remove("common").expect("what all models have");
    models.values_mut().for_each(|features| features.extend(&common));
    models
}

/// What a guest with these features reads.
fn msrs(features: &[&str]) -> Msrs {
    let mut msrs: Msrs = MSRS.map(|number| (number, 0)).collect();
    msrs.insert(0x480, 1 << 55 | 0x11e5_7ed0);
    msrs.insert(0x485, 5);
    msrs.insert(0x486, 0x8000_0021);
    msrs.insert(0x487, 0xffff_ffff);
    msrs.insert(0x488, 0x2000);
    msrs.insert(0x489, 0x0037_77ff);
    for (number, must) in MUST {
        msrs.insert(number, u64::from(must) << 32 | u64::from(must));
    }
    *msrs.get_mut(&EXIT).expect("a word") |= (1 << 2 | 1 << 9) << 32;
    *msrs.get_mut(&ENTRY).expect("a word") |= 1 << 2 << 32;
    *msrs.get_mut(&EPT_VPID).expect("a word") |= 1 << 14;
    for feature in features {
        let rows: Vec<_> = NAMES.iter().filter(|(name, ..)| name == feature).collect();
        assert!(!rows.is_empty(), "{feature} is not in the table of names");
        for (_, number, bit) in rows.into_iter().filter(|(_, number, _)| *number != OTHER) {
            let shift = if *number == EPT_VPID { 0 } else { 32 };
            *msrs.get_mut(number).expect("a word") |= 1 << (bit + shift);
        }
    }
    msrs
}

/// The controls, with the timer that is chosen for a CPU without errata.
fn controls(caps: &Caps) -> Result<Controls, NoVmx> {
    let timer = Choice::new(caps, 0x50654, None).expect("nothing was asked for").timer;
    Controls::new(caps, timer).map_err(NoVmx::Control)
}

fn caps(msrs: &Msrs) -> Result<Caps, NoVmx> {
    Caps::new(|number| msrs[&number])
}

#[test]
fn every_model_with_nested_vmx_can_be_a_host() {
    let models = models();
    assert_eq!(models.len(), 9);
    for (name, features) in &models {
        let msrs = msrs(features);
        let caps = caps(&msrs).unwrap_or_else(|missing| panic!("{name}: {missing}"));
        let controls = controls(&caps).unwrap_or_else(|missing| panic!("{name}: {missing}"));
        for (number, chosen) in [
            (PIN, controls.pin.bits()),
            (PROC, controls.proc.bits()),
            (PROC2, controls.proc2.bits()),
            (EXIT, controls.exit.bits()),
            (ENTRY, controls.entry.bits()),
        ] {
            let (must, may) = (msrs[&number] as u32, (msrs[&number] >> 32) as u32);
            assert_eq!(chosen & !may, 0, "{name}: MSR {number:#x}: what may not be 1");
            assert_eq!(must & !chosen, 0, "{name}: MSR {number:#x}: what must be 1");
        }
    }
}

#[test]
fn a_model_gives_what_its_generation_has() {
    let models = models();
    let of = |name: &str| caps(&msrs(&models[name])).expect("a host");
    assert!(!of("Nehalem").unrestricted());
    assert!(of("Westmere").unrestricted());
    assert!(!of("IvyBridge").ept_access_dirty());
    for name in ["Haswell-noTSX", "Icelake-Server-noTSX"] {
        assert!(of(name).ept_access_dirty() && !of(name).pml(), "{name}");
    }
    for name in ["Broadwell-noTSX", "Skylake-Server-noTSX-IBRS", "Cascadelake-Server-noTSX"] {
        let caps = of(name);
        assert!(caps.pml() && caps.vpid() && caps.ept_1g() && !caps.tsc_scaling(), "{name}");
        assert_eq!(caps.proc3, 0, "{name}: there are no tertiary controls to read");
        assert_eq!(caps.preemption_shift, 5, "{name}: KVM's own timer");
        assert!(controls(&caps).expect("controls").proc2.contains(ProcBased2::ENABLE_PML), "{name}");
    }
}

/// Hosts below Hyper-V have no preemption timer, or one that is not saved (fault 2.6).
#[test]
fn a_host_without_preemption_timer_takes_the_apic() {
    let models = models();
    let full = &models["Skylake-Server-noTSX-IBRS"];
    for lacks in ["preemption-timer", "exit-save-preemption-timer"] {
        let rest: Vec<&str> = full.iter().copied().filter(|feature| *feature != lacks).collect();
        let caps = caps(&msrs(&rest)).expect("a host");
        let choice = Choice::new(&caps, 0x50654, None).expect("nothing was asked for");
        assert_eq!(choice.timer, SliceTimer::ApicOneShot, "{lacks}");
        let controls = controls(&caps).expect("controls");
        assert!(!controls.pin.contains(PinBased::PREEMPTION_TIMER), "{lacks}");
        assert!(!controls.exit.contains(ExitControls::SAVE_PREEMPTION_TIMER), "{lacks}");
        assert!(controls.pin.contains(PinBased::EXTERNAL_INTERRUPT_EXITING), "{lacks}");
    }
}

#[test]
fn each_control_that_is_needed_is_missed_by_name() {
    let models = models();
    let full = &models["Skylake-Server-noTSX-IBRS"];
    let mut needed = Vec::new();
    for feature in full {
        let rest: Vec<&str> = full.iter().copied().filter(|other| other != feature).collect();
        let msrs = msrs(&rest);
        match caps(&msrs).and_then(|caps| controls(&caps)) {
            Ok(_) => {}
            Err(NoVmx::Control(MissingControls { word, bits })) => {
                let rows: Vec<_> = NAMES.iter().filter(|(name, ..)| name == feature).collect();
                assert!(rows.iter().any(|(.., bit)| bits == 1 << bit), "{feature}: {word} {bits:#x}");
                needed.push(*feature);
            }
            Err(NoVmx::NoEpt | NoVmx::Ept(_)) => needed.push(*feature),
            Err(other) => panic!("{feature}: {other}"),
        }
    }
    needed.sort_unstable();
    // KVM without `-cpu`'s named model may hide any of them: the list is what docs/nested.md says a host must lend.
    let must = "cr8-load-exit cr8-store-exit entry-load-efer entry-load-pat ept ept-2mb exit-load-efer exit-load-pat exit-save-efer exit-save-pat \
                hlt-exit intr-exit invept invept-all-context invept-single-context io-exit monitor-exit msr-bitmap \
                mwait-exit nmi-exit page-walk-4 rdpmc-exit secondary-ctls tsc-offset vnmi";
    assert_eq!(needed.join(" "), must.split_whitespace().collect::<Vec<_>>().join(" "));
    let page = include_str!("../../../docs/nested.md");
    for feature in &needed {
        assert!(page.contains(&format!("`vmx-{feature}`")), "docs/nested.md does not name vmx-{feature}");
    }
}
