//! Tests of [`super`]: valid states are accepted, and each rule that is broken alone is named.

use super::*;
use crate::capability::Caps;
use crate::control::{EntryControls, ExitControls, PinBased, ProcBased, ProcBased2};
use crate::controls::Controls;
use crate::event::Event;
use crate::field::{self, Field, Segment, Width};
use crate::flow::Flow;
use crate::slice::SliceTimer;
use crate::vmcs::Vmcs;
use alloc::collections::BTreeMap;
use alloc::string::ToString;

const WIDTH: u8 = 46;

/// A VMCS as a map from encodings.
#[derive(Clone, Debug, Default)]
struct Mock(BTreeMap<u32, u64>);

impl Vmcs for Mock {
    fn get<W: Width, A>(&self, field: Field<W, A>) -> W::Value {
        W::truncate(self.0.get(&field.encoding()).copied().unwrap_or(0))
    }
}

impl Mock {
    fn set<W: Width, A>(&mut self, field: Field<W, A>, value: u64) {
        self.0.insert(field.encoding(), value);
    }

    fn or<W: Width, A>(&mut self, field: Field<W, A>, bits: u64) {
        *self.0.entry(field.encoding()).or_default() |= bits;
    }
}

/// A CPU that may set every control, and must set none.
fn caps() -> Caps {
    Caps::new(|msr| match msr {
        0x480 | 0x485 => 0,
        0x486 => 0x8000_0021,
        0x487 => 0xffff_ffff,
        0x488 => 0x2000,
        0x489 => 0x37_67ff,
        0x48c | 0x492 => u64::MAX,
        _ => 0xffff_ffff << 32,
    })
    .expect("a host")
}

/// 64-bit mode, as Linux runs in, under the controls of a VMCS of ours.
fn long_mode() -> Mock {
    let mut vmcs = Mock::default();
    let controls = Controls::new(&caps(), SliceTimer::Preemption).expect("controls");
    for (field, value) in [
        (field::PIN_BASED_CONTROLS, controls.pin.bits()),
        (field::PROC_BASED_CONTROLS, controls.proc.bits()),
        (field::PROC_BASED_CONTROLS_2, controls.proc2.bits()),
        (field::EXIT_CONTROLS, controls.exit.bits()),
        (field::ENTRY_CONTROLS, (controls.entry | EntryControls::IA32E_MODE_GUEST).bits()),
    ] {
        vmcs.set(field, value.into());
    }
    vmcs.set(field::VMCS_LINK_POINTER, u64::MAX);
    vmcs.set(field::VPID, 1);
    vmcs.set(field::MSR_BITMAP, 0x5000);
    vmcs.set(field::PML_ADDRESS, 0x6000);
    vmcs.set(field::EPT_POINTER, 0x7000 | 1 << 6 | 3 << 3 | 6);
    for (field, value) in
        [(field::HOST_CR0, 0x8001_0033), (field::HOST_CR3, 0x1000), (field::HOST_CR4, 0x2020)]
    {
        vmcs.set(field, value);
    }
    vmcs.set(field::HOST_IA32_EFER, 0xd01);
    vmcs.set(field::HOST_CS_SELECTOR, 8);
    vmcs.set(field::HOST_TR_SELECTOR, 0x18);
    vmcs.set(field::GUEST_CR0, 0x8005_0033);
    vmcs.set(field::GUEST_CR3, 0x10_0000);
    vmcs.set(field::GUEST_CR4, 0x2020);
    vmcs.set(field::GUEST_IA32_EFER, 0xd01);
    vmcs.set(field::GUEST_RFLAGS, 0x202);
    vmcs.set(field::GUEST_RIP, 0xffff_ffff_8100_0000);
    for segment in Segment::ALL {
        vmcs.set(segment.access_rights(), 0xc093);
        vmcs.set(segment.limit(), 0xffff_ffff);
    }
    vmcs.set(field::GUEST_CS_ACCESS_RIGHTS, 0xa09b);
    vmcs.set(field::GUEST_LDTR_ACCESS_RIGHTS, 0x1_0000);
    vmcs.set(field::GUEST_TR_ACCESS_RIGHTS, 0x8b);
    vmcs.set(field::GUEST_TR_LIMIT, 0x67);
    vmcs
}

/// A 32-bit guest with PAE paging.
fn pae() -> Mock {
    let mut vmcs = long_mode();
    vmcs.set(field::ENTRY_CONTROLS, vmcs.get(field::ENTRY_CONTROLS) as u64 & !(1 << 9));
    vmcs.set(field::GUEST_IA32_EFER, 0x801);
    vmcs.set(field::GUEST_CS_ACCESS_RIGHTS, 0xc09b);
    vmcs.set(field::GUEST_RIP, 0xc100_0000);
    for (n, pdpte) in field::GUEST_PDPTES.into_iter().enumerate() {
        vmcs.set(pdpte, 0x20_0001 + 0x1000 * n as u64);
    }
    vmcs
}

/// Has the CPU take what is posted.
fn posts(vmcs: &mut Mock) {
    vmcs.or(field::PIN_BASED_CONTROLS, PinBased::POSTED_INTERRUPTS.bits().into());
    vmcs.or(field::PROC_BASED_CONTROLS, ProcBased::USE_TPR_SHADOW.bits().into());
    vmcs.or(field::PROC_BASED_CONTROLS_2, ProcBased2::VIRTUAL_INTERRUPT_DELIVERY.bits().into());
    vmcs.or(field::EXIT_CONTROLS, ExitControls::ACKNOWLEDGE_INTERRUPT.bits().into());
    vmcs.set(field::POSTED_INTERRUPT_VECTOR, 0xf2);
    vmcs.set(field::POSTED_INTERRUPT_DESCRIPTOR, 0x8040);
}

/// Has it leave interrupts for others as well.
fn sends(vmcs: &mut Mock) {
    posts(vmcs);
    vmcs.or(field::PROC_BASED_CONTROLS, ProcBased::TERTIARY_CONTROLS.bits().into());
    vmcs.set(field::PROC_BASED_CONTROLS_3, crate::apic::TERTIARY);
    vmcs.set(field::PID_POINTER_TABLE, 0x9008);
    vmcs.set(field::LAST_PID_POINTER_INDEX, 63);
}

/// Real mode, with unrestricted guest.
fn real() -> Mock {
    let mut vmcs = pae();
    vmcs.set(field::GUEST_CR0, 0x30);
    vmcs.set(field::GUEST_CR4, 0x2000);
    vmcs.set(field::GUEST_IA32_EFER, 0);
    vmcs.set(field::GUEST_RIP, 0xfff0);
    for segment in &Segment::ALL[..6] {
        vmcs.set(segment.access_rights(), 0x93);
        vmcs.set(segment.limit(), 0xffff);
    }
    vmcs
}

fn verdict(vmcs: &Mock) -> Verdict {
    Checker::default().before_entry(vmcs, &caps(), WIDTH)
}

fn inject(vmcs: &mut Mock, info: u64, error_code: u64, length: u64) {
    vmcs.set(field::ENTRY_INTERRUPTION_INFO, info);
    vmcs.set(field::ENTRY_EXCEPTION_ERROR_CODE, error_code);
    vmcs.set(field::ENTRY_INSTRUCTION_LENGTH, length);
}

type Spoil = fn(&mut Mock);

#[test]
fn what_every_guest_does_is_legal() {
    for (vmcs, name) in [(long_mode(), "64-bit"), (pae(), "PAE"), (real(), "real")] {
        assert_eq!(verdict(&vmcs), Ok(()), "{name}");
    }
    let legal: &[Spoil] = &[
        |v| inject(v, 0x8000_0020, 0, 0),
        |v| inject(v, 0x8000_0202, 0, 0),
        |v| inject(v, 0x8000_0b0e, 7, 0),
        |v| inject(v, 0x8000_0480, 0, 2),
        |v| inject(v, 0x8000_0501, 0, 1),
        |v| v.set(field::GUEST_INTERRUPTIBILITY, 1),
        |v| v.set(field::GUEST_INTERRUPTIBILITY, 0xa),
        |v| {
            v.or(field::GUEST_RFLAGS, 1 << 8);
            v.set(field::GUEST_INTERRUPTIBILITY, 2);
            v.set(field::GUEST_PENDING_DEBUG, 1 << 14);
        },
        |v| v.set(field::GUEST_SS_ACCESS_RIGHTS, 0x1_0000),
        |v| v.set(field::GUEST_ACTIVITY_STATE, 1),
        posts,
        sends,
    ];
    for (number, change) in legal.iter().enumerate() {
        let mut vmcs = long_mode();
        change(&mut vmcs);
        assert_eq!(verdict(&vmcs), Ok(()), "{number}");
    }
    let mut fault = real();
    inject(&mut fault, 0x8000_030d, 0, 0);
    assert_eq!(verdict(&fault), Ok(()));
}

#[test]
fn each_rule_broken_alone_is_named() {
    let cases: &[(&str, Spoil)] = &[
        ("secondary controls is 0x200c0 (SDM 26.2.1.1)", |v| v.set(field::PROC_BASED_CONTROLS_2, 0x2_00c0)),
        ("pin-based controls is 0x60 (SDM 26.2.1.1)", |v| v.set(field::PIN_BASED_CONTROLS, 0x60)),
        ("processor-based controls", |v| {
            v.set(field::PIN_BASED_CONTROLS, 0x40);
            v.or(field::PROC_BASED_CONTROLS, 1 << 22);
        }),
        ("CR3-target count is 0x5 (SDM 26.2.1.1)", |v| v.set(field::CR3_TARGET_COUNT, 5)),
        ("MSR bitmap is 0x5001", |v| v.set(field::MSR_BITMAP, 0x5001)),
        ("PML address is", |v| v.set(field::PML_ADDRESS, 1 << 46)),
        ("virtual-APIC address is", |v| {
            v.or(field::PROC_BASED_CONTROLS, ProcBased::USE_TPR_SHADOW.bits().into());
            v.set(field::VIRTUAL_APIC_ADDRESS, 0x8008);
        }),
        ("APIC-access address is", |v| {
            v.or(field::PROC_BASED_CONTROLS_2, ProcBased2::VIRTUALIZE_APIC_ACCESSES.bits().into());
            v.set(field::APIC_ACCESS_ADDRESS, 1 << 46);
        }),
        ("TPR threshold is 0x10", |v| {
            v.or(field::PROC_BASED_CONTROLS, ProcBased::USE_TPR_SHADOW.bits().into());
            v.set(field::TPR_THRESHOLD, 16);
        }),
        ("secondary controls is 0x20", |v| {
            v.or(field::PROC_BASED_CONTROLS_2, ProcBased2::VIRTUAL_INTERRUPT_DELIVERY.bits().into());
        }),
        ("secondary controls is 0x20", |v| {
            v.or(field::PROC_BASED_CONTROLS, ProcBased::USE_TPR_SHADOW.bits().into());
            let both = ProcBased2::VIRTUALIZE_APIC_ACCESSES | ProcBased2::VIRTUALIZE_X2APIC_MODE;
            v.or(field::PROC_BASED_CONTROLS_2, both.bits().into());
        }),
        ("pin-based controls is 0xe9 (SDM 26.2.1.1)", |v| {
            posts(v);
            v.set(field::PROC_BASED_CONTROLS_2, ProcBased2::ENABLE_EPT.bits().into());
        }),
        ("exit controls is", |v| {
            let exit = v.get(field::EXIT_CONTROLS);
            posts(v);
            v.set(field::EXIT_CONTROLS, exit.into());
        }),
        ("posted-interrupt notification vector is 0x100", |v| {
            posts(v);
            v.set(field::POSTED_INTERRUPT_VECTOR, 0x100);
        }),
        ("posted-interrupt descriptor address is 0x8020", |v| {
            posts(v);
            v.set(field::POSTED_INTERRUPT_DESCRIPTOR, 0x8020);
        }),
        ("posted-interrupt descriptor address is 0x400000000000", |v| {
            posts(v);
            v.set(field::POSTED_INTERRUPT_DESCRIPTOR, 1 << 46);
        }),
        ("tertiary controls is 0x10 (SDM 26.2.1.1)", |v| {
            let alone = v.get(field::PROC_BASED_CONTROLS);
            v.or(field::PROC_BASED_CONTROLS, ProcBased::TERTIARY_CONTROLS.bits().into());
            v.set(field::PROC_BASED_CONTROLS_3, crate::apic::TERTIARY);
            assert!(alone & ProcBased::USE_TPR_SHADOW.bits() == 0);
        }),
        ("PID-pointer table address is 0x9004", |v| {
            sends(v);
            v.set(field::PID_POINTER_TABLE, 0x9004);
        }),
        ("PID-pointer table address is 0x3ffffffffff8", |v| {
            sends(v);
            v.set(field::PID_POINTER_TABLE, (1 << 46) - 8);
        }),
        ("VPID is 0x0 (SDM 26.2.1.1)", |v| v.set(field::VPID, 0)),
        ("EPT pointer is 0x7058", |v| v.set(field::EPT_POINTER, 0x7058)),
        ("exit controls", |v| v.set(field::PIN_BASED_CONTROLS, 0x29)),
        ("exit MSR-load count is 0x1 (SDM 26.2.1.2)", |v| v.set(field::EXIT_MSR_LOAD_COUNT, 1)),
        ("entry MSR-load count is 0x1 (SDM 26.2.1.3)", |v| v.set(field::ENTRY_MSR_LOAD_COUNT, 1)),
        ("VMCS link pointer is 0x0 (SDM 26.3.1.5)", |v| v.set(field::VMCS_LINK_POINTER, 0)),
        ("host CR0 is 0x33 (SDM 26.2.2)", |v| v.set(field::HOST_CR0, 0x33)),
        ("host CR3 is", |v| v.set(field::HOST_CR3, 1 << 46)),
        ("host CR4 is 0x20 (SDM 26.2.2)", |v| v.set(field::HOST_CR4, 0x20)),
        ("host CR4 is 0x2000 (SDM 26.2.4)", |v| v.set(field::HOST_CR4, 0x2000)),
        ("host IA32_EFER is 0x1", |v| v.set(field::HOST_IA32_EFER, 1)),
        ("host IA32_PAT is 0x2", |v| v.set(field::HOST_IA32_PAT, 2)),
        ("host selector is 0xb (SDM 26.2.3)", |v| v.set(field::HOST_CS_SELECTOR, 0xb)),
        ("host CS selector is 0x0", |v| v.set(field::HOST_CS_SELECTOR, 0)),
        ("host TR selector is 0x0", |v| v.set(field::HOST_TR_SELECTOR, 0)),
        ("host GDTR base is", |v| v.set(field::HOST_GDTR_BASE, 1 << 47)),
        ("host IA32_SYSENTER_ESP is 0x800000000000 (SDM 26.2.2)", |v| {
            v.set(field::HOST_IA32_SYSENTER_ESP, 1 << 47);
        }),
        ("host RIP is", |v| v.set(field::HOST_RIP, 1 << 47)),
        ("event is 0x80000b0d (SDM 26.2.1.3)", |v| {
            *v = real();
            inject(v, 0x8000_0b0d, 0, 0);
        }),
        ("event is 0x8000030d (SDM 26.2.1.3)", |v| inject(v, 0x8000_030d, 0, 0)),
        ("event is 0x80001020", |v| inject(v, 0x8000_1020, 0, 0)),
        ("event is 0x80000120", |v| inject(v, 0x8000_0120, 0, 0)),
        ("event is 0x80000700", |v| inject(v, 0x8000_0700, 0, 0)),
        ("event is 0x80000203", |v| inject(v, 0x8000_0203, 0, 0)),
        ("event is 0x80000320", |v| inject(v, 0x8000_0320, 0, 0)),
        ("event is 0x80000c80", |v| inject(v, 0x8000_0c80, 0, 2)),
        ("event error code is 0x10000", |v| inject(v, 0x8000_0b0e, 1 << 16, 0)),
        ("event length is 0x0", |v| inject(v, 0x8000_0480, 0, 0)),
        ("event length is 0x10", |v| inject(v, 0x8000_0603, 0, 16)),
        ("CR0 is 0x8005", |v| v.set(field::GUEST_CR0, 0x8005_0013)),
        ("CR0 is 0x80050032 (SDM 26.3.1.1)", |v| v.set(field::GUEST_CR0, 0x8005_0032)),
        ("CR4 is 0x2000 (SDM 26.3.1.1)", |v| v.set(field::GUEST_CR4, 0x2000)),
        ("CR4 is 0x20 (SDM", |v| v.set(field::GUEST_CR4, 0x20)),
        ("CR4 is 0x22020 (SDM", |v| {
            *v = pae();
            v.set(field::GUEST_CR4, 0x2_2020);
        }),
        ("CR3 is", |v| v.set(field::GUEST_CR3, 1 << 46)),
        ("IA32_DEBUGCTL is 0x4", |v| v.set(field::GUEST_IA32_DEBUGCTL, 4)),
        ("DR7 is 0x100000000", |v| v.set(field::GUEST_DR7, 1 << 32)),
        ("address IA32_SYSENTER_ESP", |v| v.set(field::GUEST_IA32_SYSENTER_ESP, 1 << 47)),
        ("address IA32_SYSENTER_EIP", |v| v.set(field::GUEST_IA32_SYSENTER_EIP, 1 << 47)),
        ("IA32_PAT is 0x200", |v| v.set(field::GUEST_IA32_PAT, 0x200)),
        ("IA32_EFER is 0x901", |v| v.set(field::GUEST_IA32_EFER, 0x901)),
        ("IA32_EFER is 0xc01", |v| v.set(field::GUEST_IA32_EFER, 0xc01)),
        ("IA32_EFER is 0x2d01", |v| v.set(field::GUEST_IA32_EFER, 0x2d01)),
        ("TR selector is 0x4 (SDM 26.3.1.2)", |v| v.set(field::GUEST_TR_SELECTOR, 4)),
        ("LDTR selector is 0x4", |v| {
            v.set(field::GUEST_LDTR_ACCESS_RIGHTS, 0x82);
            v.set(field::GUEST_LDTR_SELECTOR, 4);
        }),
        ("FS address", |v| v.set(field::GUEST_FS_BASE, 1 << 47)),
        ("ES base is 0x100000000", |v| v.set(field::GUEST_ES_BASE, 1 << 32)),
        ("SS access rights is 0xc0b3", |v| {
            *v = real();
            v.set(field::GUEST_SS_ACCESS_RIGHTS, 0xc0b3);
        }),
        ("CS access rights is 0xe09b", |v| v.set(field::GUEST_CS_ACCESS_RIGHTS, 0xe09b)),
        ("CS limit is 0xfffffffe", |v| v.set(field::GUEST_CS_LIMIT, 0xffff_fffe)),
        ("TR access rights is 0x83", |v| v.set(field::GUEST_TR_ACCESS_RIGHTS, 0x83)),
        ("DS access rights is 0xc013", |v| v.set(field::GUEST_DS_ACCESS_RIGHTS, 0xc013)),
        ("GDTR address", |v| v.set(field::GUEST_GDTR_BASE, 1 << 47)),
        ("IDTR limit is 0x10000 (SDM 26.3.1.3)", |v| v.set(field::GUEST_IDTR_LIMIT, 0x1_0000)),
        ("RIP, an address, is 0x800000000000 (SDM 26.3.1.4)", |v| v.set(field::GUEST_RIP, 1 << 47)),
        ("RIP, an address, is 0x100000000", |v| {
            *v = pae();
            v.set(field::GUEST_RIP, 1 << 32);
        }),
        ("RFLAGS is 0x200 (SDM 26.3.1.4)", |v| v.set(field::GUEST_RFLAGS, 0x200)),
        ("RFLAGS is 0x20002", |v| v.set(field::GUEST_RFLAGS, 0x2_0002)),
        ("RFLAGS under an injected interrupt is 0x2", |v| {
            v.set(field::GUEST_RFLAGS, 2);
            inject(v, 0x8000_0020, 0, 0);
        }),
        ("activity state is 0x4 (SDM 26.3.1.5)", |v| v.set(field::GUEST_ACTIVITY_STATE, 4)),
        ("activity state is 0x1", |v| {
            v.set(field::GUEST_ACTIVITY_STATE, 1);
            inject(v, 0x8000_0b0d, 0, 0);
        }),
        ("activity state is 0x3", |v| {
            v.set(field::GUEST_ACTIVITY_STATE, 3);
            inject(v, 0x8000_0202, 0, 0);
        }),
        ("interruptibility is 0x3", |v| v.set(field::GUEST_INTERRUPTIBILITY, 3)),
        ("interruptibility is 0x4", |v| v.set(field::GUEST_INTERRUPTIBILITY, 4)),
        ("interruptibility is 0x1", |v| {
            v.set(field::GUEST_RFLAGS, 2);
            v.set(field::GUEST_INTERRUPTIBILITY, 1);
        }),
        ("interruptibility under an injected event is 0x1", |v| {
            v.set(field::GUEST_INTERRUPTIBILITY, 1);
            inject(v, 0x8000_0020, 0, 0);
        }),
        // fault 2.9
        ("interruptibility under an injected event is 0x8 (SDM 26.3.1.5)", |v| {
            v.set(field::GUEST_INTERRUPTIBILITY, 8);
            inject(v, 0x8000_0202, 0, 0);
        }),
        // fault 2.8
        ("pending debug exceptions is 0x0 (SDM 26.3.1.5)", |v| {
            v.or(field::GUEST_RFLAGS, 1 << 8);
            v.set(field::GUEST_INTERRUPTIBILITY, 1);
            inject(v, 0x8000_0301, 0, 0);
        }),
        ("pending debug exceptions is 0x4000", |v| {
            v.set(field::GUEST_INTERRUPTIBILITY, 2);
            v.set(field::GUEST_PENDING_DEBUG, 1 << 14);
        }),
        ("pending debug exceptions is 0x10", |v| v.set(field::GUEST_PENDING_DEBUG, 0x10)),
        ("pending debug exceptions is 0x14000", |v| v.set(field::GUEST_PENDING_DEBUG, 1 << 16 | 1 << 14)),
        // fault 2.13
        ("PDPTE is 0x400000000001 (SDM 26.3.1.6)", |v| {
            *v = pae();
            v.set(field::GUEST_PDPTE2, 1 << 46 | 1);
        }),
    ];
    for (name, spoil) in cases {
        let mut vmcs = long_mode();
        spoil(&mut vmcs);
        let broken = verdict(&vmcs).expect_err(name).to_string();
        assert!(broken.contains(name), "{name}: {broken}");
    }
}

/// After the first entry only what changed is judged, but nothing that changed is missed.
#[test]
fn what_changed_is_judged_again() {
    let mut vmcs = long_mode();
    let mut checker = Checker::default();
    assert_eq!(checker.before_entry(&vmcs, &caps(), WIDTH), Ok(()));
    vmcs.set(field::HOST_RIP, 1 << 47);
    assert_eq!(checker.before_entry(&vmcs, &caps(), WIDTH), Ok(()), "nobody changes it between two loads");
    checker.forget();
    assert!(checker.before_entry(&vmcs, &caps(), WIDTH).is_err());
    vmcs.set(field::HOST_RIP, 0);
    assert_eq!(checker.before_entry(&vmcs, &caps(), WIDTH), Ok(()));
    for spoil in [
        (|v| v.set(field::GUEST_CR0, 0)) as Spoil,
        |v| v.or(field::PROC_BASED_CONTROLS, 1 << 22),
        |v| v.set(field::GUEST_GDTR_LIMIT, 1 << 16),
        |v| v.set(field::GUEST_INTERRUPTIBILITY, 3),
    ] {
        let mut vmcs = vmcs.clone();
        vmcs.set(field::EXIT_REASON, 28); // MOV to CR
        checker.after_exit(&vmcs);
        spoil(&mut vmcs);
        let mut narrow = caps();
        narrow.proc.may &= !(1 << 22);
        assert!(checker.clone().before_entry(&vmcs, &narrow, WIDTH).is_err());
    }
}

fn after(vmcs: &Mock, reason: u64, change: Spoil) -> (Checker, Mock) {
    let mut exited = vmcs.clone();
    exited.set(field::EXIT_REASON, reason);
    change(&mut exited);
    let mut checker = Checker::default();
    checker.after_exit(&exited);
    (checker, exited)
}

/// SDM 27: what an exit leaves to be done.
#[test]
fn what_an_exit_asks_is_done_at_the_next_entry() {
    let entry = |checker: &Checker, vmcs: &Mock| checker.clone().before_entry(vmcs, &caps(), WIDTH);
    let broken = |verdict: Verdict| verdict.expect_err("a debt").to_string();

    let (checker, mut vmcs) = after(&long_mode(), 48, |v| v.set(field::IDT_VECTORING_INFO, 0x8000_0020));
    assert_eq!(broken(entry(&checker, &vmcs)), "event delivered again is 0x0 (SDM 27.2.4)");
    inject(&mut vmcs, 0x8000_0021, 0, 0);
    assert!(entry(&checker, &vmcs).is_err(), "another one");
    inject(&mut vmcs, 0x8000_0020, 0, 0);
    assert_eq!(entry(&checker, &vmcs), Ok(()));
    let (raised, vmcs) = after(&long_mode(), 0, |v| v.set(field::IDT_VECTORING_INFO, 0x8000_0020));
    assert_eq!(entry(&raised, &vmcs), Ok(()), "an exception takes its place");

    // Fault 2.10: EPT violation and full log by the qualification, exceptions by their information.
    for (reason, word) in [(48, field::EXIT_QUALIFICATION.encoding()), (62, 0x6400), (0, 0x4404)] {
        let (checker, mut vmcs) = after(&long_mode(), reason, |_| {});
        assert_eq!(entry(&checker, &vmcs), Ok(()));
        vmcs.0.insert(word, 0x1083);
        let mut checker = checker;
        checker.after_exit(&vmcs);
        assert_eq!(broken(entry(&checker, &vmcs)), "interruptibility after an IRET is 0x0 (SDM 27.2.3)");
        vmcs.set(field::GUEST_INTERRUPTIBILITY, 8);
        assert_eq!(entry(&checker, &vmcs), Ok(()), "{reason}");
    }

    // Fault 2.11a: a step over an instruction that exits, and one that the exit left.
    let (checker, mut vmcs) = after(&long_mode(), 10, |v| v.or(field::GUEST_RFLAGS, 1 << 8));
    assert_eq!(entry(&checker, &vmcs), Ok(()), "it runs again");
    vmcs.set(field::GUEST_RIP, 0xffff_ffff_8100_0002);
    assert_eq!(broken(entry(&checker, &vmcs)), "pending debug exceptions is 0x0 (SDM 27.3.4)");
    vmcs.set(field::GUEST_PENDING_DEBUG, 1 << 14);
    assert_eq!(entry(&checker, &vmcs), Ok(()));
    let (checker, mut vmcs) = after(&long_mode(), 52, |v| v.set(field::GUEST_PENDING_DEBUG, 1 << 12 | 1));
    assert_eq!(entry(&checker, &vmcs), Ok(()));
    vmcs.set(field::GUEST_PENDING_DEBUG, 0);
    assert!(entry(&checker, &vmcs).is_err());
}

/// Whatever `flow` makes of an exit's state, the entry is legal: the two are written apart, and must agree.
#[test]
fn the_decisions_obey_the_rules() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let mut entered = 0;
    for _ in 0..20_000 {
        let mut vmcs = if random(4) == 0 { real() } else { long_mode() };
        let protected = vmcs.get(field::GUEST_CR0) & 1 != 0;
        let blocked = random(16);
        let rflags = 2 | random(2) << 8 | random(2) << 9 | random(2) << 16;
        let step = blocked & 3 != 0 && rflags & 1 << 8 != 0;
        let pending = if step { 1 << 14 } else { random(2) << 12 | random(2) };
        vmcs.set(field::GUEST_RFLAGS, rflags);
        vmcs.set(field::GUEST_INTERRUPTIBILITY, blocked);
        vmcs.set(field::GUEST_PENDING_DEBUG, pending);
        if verdict(&vmcs).is_err() {
            continue; // no exit leaves such a state
        }
        let flow = Flow { rflags, interruptibility: blocked as u32, pending_debug: pending };
        let event = match random(6) {
            0 => Event::NMI,
            1 if rflags & 1 << 9 != 0 => Event::interrupt(random(256) as u8),
            2 => Event::decode(0x8000_0501, 0, 1).expect("INT1"),
            3 => Event::decode(0x8000_0480, 0, 2).expect("INT 0x80"),
            _ => {
                let fault = Event::exception([1, 6, 13, 14, 17][random(5) as usize], Some(0));
                if fault.has_error_code() { fault } else { Event { error_code: None, ..fault } }
            }
        };
        let flow = if random(2) == 0 { flow.raise(event) } else { flow.before(event) };
        vmcs.set(field::GUEST_RFLAGS, flow.rflags);
        vmcs.set(field::GUEST_INTERRUPTIBILITY, flow.interruptibility.into());
        vmcs.set(field::GUEST_PENDING_DEBUG, flow.pending_debug);
        let event = event.in_mode(protected);
        inject(&mut vmcs, event.info().into(), event.error_code.unwrap_or(0).into(), event.length.into());
        assert_eq!(verdict(&vmcs), Ok(()), "{event:?} {flow:x?}");
        entered += 1;
    }
    assert!(entered > 5_000, "{entered}");
}

/// Any bits in any field end in a verdict.
#[test]
fn no_state_panics() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 20
    };
    for _ in 0..5_000 {
        let mut vmcs = long_mode();
        for _ in 0..random() % 4 + 1 {
            let named = field::ALL[random() as usize % field::ALL.len()];
            vmcs.0.insert(named.encoding, random() << (random() % 64));
        }
        let mut checker = Checker::default();
        checker.after_exit(&vmcs);
        let _ = checker.before_entry(&vmcs, &caps(), random() as u8);
    }
}
