//! Tests of [`super`].

use super::*;
use crate::paging::{
    CR0_NW, CR0_PE, CR0_PG, CR4_PAE, CR4_PCIDE, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, Limits,
};
use alloc::{format, vec};

const LIMITS: Limits =
    Limits { unrestricted: true, cr4: 0x3407ff, efer: EFER_SCE | EFER_LME | EFER_NXE, phys_bits: 40 };

const CS: usize = 1;
const SS: usize = 2;
const LDTR: usize = 6;
const TR: usize = 7;

/// 64-bit mode, as Linux runs in.
fn valid() -> VcpuState {
    let data = SegmentState { selector: 0x18, base: 0, limit: u32::MAX, rights: 0xc093 };
    let code = SegmentState { selector: 0x10, base: 0, limit: u32::MAX, rights: 0xa09b };
    let ldtr = SegmentState { selector: 0, base: 0, limit: 0, rights: 0x1_0000 };
    let tr = SegmentState { selector: 0x40, base: 0xffff_fe00_0000_3000, limit: 0x206f, rights: 0x8b };
    VcpuState {
        segments: [data, code, data, data, data, data, ldtr, tr],
        rflags: 2,
        cr0: CR0_PE | CR0_PG,
        cr4: CR4_PAE,
        efer: EFER_LME | EFER_LMA,
        xcr0: 7,
        pat: 0x0007_0406_0007_0406,
        xsave: vec![0; 832],
        ..VcpuState::default()
    }
}

#[test]
fn travels_unchanged() {
    let mut state = valid();
    state.gprs = core::array::from_fn(|n| n as u64 * 0x1111);
    state.segments[1] = SegmentState { selector: 0x10, base: 0, limit: u32::MAX, rights: 0xa09b };
    assert_eq!(state.check(&LIMITS, 7, 7), Ok(()));
    let without = state.to_bytes();
    assert_eq!(VcpuState::from_bytes(&without), Ok(state.clone()));
    // What a guest does not use is not there, so that readers of before take it.
    (state.spec_ctrl, state.misc_features) = (Some(1), Some(1));
    let with = state.to_bytes();
    assert_eq!(with.len(), without.len() + 6, "two keys above 23 with a small value each");
    assert_eq!(VcpuState::from_bytes(&with), Ok(state));
}

#[test]
fn a_guest_without_spec_ctrl_writes_the_record_of_before() {
    let old = valid().to_bytes();
    let new = VcpuState { spec_ctrl: Some(5), ..valid() };
    assert_eq!(VcpuState::from_bytes(&old).map(|state| state.spec_ctrl), Ok(None));
    assert_eq!(VcpuState::from_bytes(&new.to_bytes()), Ok(new.clone()));
    // A map of 29 members in the old record: number 29 is not written as null.
    assert_eq!(old[..2], [0xb8, 29]);
    assert_eq!(new.check(&LIMITS, 7, 7), Ok(()));
    assert_eq!(new.check(&LIMITS, 7, 0), Err("IA32_SPEC_CTRL is 0x5".into()));
}

/// Fault 2.16a: PDPTEs are registers, and travel; a guest without PAE paging writes the record of before.
#[test]
fn pdptes_travel_with_their_guest() {
    let mut pae = valid();
    (pae.efer, pae.segments[CS].rights) = (0, 0xc09b);
    let before = pae.to_bytes();
    pae.pdptes = Some([0x1001, 0, 0, 0x2001]);
    assert_eq!(pae.check(&LIMITS, 7, 7), Ok(()));
    let bytes = pae.to_bytes();
    // Frozen: member 31, an array of four, at the end of the record of before.
    let member = [0x18, 31, 0x84, 0x19, 0x10, 0x01, 0, 0, 0x19, 0x20, 0x01];
    assert_eq!((&bytes[..2], &before[..2]), (&[0xb8, 30][..], &[0xb8, 29][..]));
    assert_eq!((&bytes[2..before.len()], &bytes[before.len()..]), (&before[2..], &member[..]));
    assert_eq!(VcpuState::from_bytes(&bytes), Ok(pae.clone()));
    assert_eq!(VcpuState::from_bytes(&before).map(|state| state.pdptes), Ok(None));
    pae.pdptes = Some([0, 1 << 40 | 1, 0, 0]);
    assert_eq!(pae.check(&LIMITS, 7, 7), Err("PDPTE is 0x10000000001 (SDM 26.3.1.6)".into()));
    let stray = VcpuState { pdptes: Some([1, 0, 0, 0]), ..valid() };
    assert_eq!(stray.check(&LIMITS, 7, 7), Err("PDPTE of a guest without PAE paging is 0x1".into()));
}

type Spoil = fn(&mut VcpuState);

/// A protected-mode guest in virtual-8086 mode.
fn virtual_8086() -> VcpuState {
    let mut state = valid();
    (state.efer, state.cr4, state.rflags) = (0, 0, 1 << 17 | 2);
    for segment in &mut state.segments[..6] {
        *segment = SegmentState { selector: 0x100, base: 0x1000, limit: 0xffff, rights: 0xf3 };
    }
    state
}

/// Real mode, as after reset: for CPUs with unrestricted guest.
fn real() -> VcpuState {
    let mut state = valid();
    (state.cr0, state.cr4, state.efer) = (0, 0, 0);
    for segment in &mut state.segments[..6] {
        *segment = SegmentState { selector: 0xf000, base: 0xf_0000, limit: 0xffff, rights: 0x93 };
    }
    state
}

#[test]
fn legal_states_of_every_mode() {
    let mut user = valid();
    user.segments[CS].rights |= 3 << 5;
    user.segments[SS].rights |= 3 << 5;
    let mut pending = valid();
    (pending.rflags, pending.event_info) = (0x202, 0x8000_0020);
    let mut fault = valid();
    (fault.event_info, fault.event_error_code) = (0x8000_0b0e, 7);
    let mut stepping = valid();
    (stepping.rflags, stepping.interruptibility, stepping.pending_debug) = (0x302, 1, 1 << 14);
    let halted = VcpuState { halted: true, rflags: 0x202, ..valid() };
    let states = [valid(), virtual_8086(), real(), user, pending, fault, stepping, halted];
    for (number, state) in states.iter().enumerate() {
        assert_eq!(state.check(&LIMITS, 7, 7), Ok(()), "{number}");
    }
}

#[test]
fn each_wrong_field_is_named() {
    let cases: &[(&str, Spoil)] = &[
        ("CR0 is 0x80000000", |s| s.cr0 = CR0_PG),
        ("CR0 is", |s| s.cr0 |= CR0_NW),
        ("CR0 is", |s| s.cr0 |= 1 << 32),
        ("CR0 is", |s| s.cr0 |= 1 << 6),
        ("CR4 is", |s| s.cr4 |= 1 << 13),
        ("CR4 is 0x0", |s| s.cr4 = 0),
        ("CR3 is 0x10000000000", |s| s.cr3 = 1 << 40),
        ("IA32_EFER is 0x400", |s| s.efer = EFER_LMA),
        ("IA32_EFER is 0x4500", |s| s.efer |= 1 << 14),
        ("XCR0 is 0xe7", |s| s.xcr0 = 0xe7),
        ("XCR0 is 0x5", |s| s.xcr0 = 5),
        ("XCR0 is 0x6", |s| s.xcr0 = 6),
        ("RFLAGS is 0x0", |s| s.rflags = 0),
        ("RFLAGS is 0xa", |s| s.rflags = 0xa),
        ("RFLAGS is 0x400002", |s| s.rflags |= 1 << 22),
        ("DR7 is 0x100000000", |s| s.dr7 = 1 << 32),
        ("DR6 is 0x100000000", |s| s.debug[4] = 1 << 32),
        ("interruptibility is 0x3", |s| s.interruptibility = 3),
        ("interruptibility is 0x1", |s| s.interruptibility = 1),
        ("interruptibility is 0x4", |s| s.interruptibility = 4),
        ("interruptibility is 0x10", |s| s.interruptibility = 0x10),
        ("activity", |s| (s.halted, s.wait_for_sipi) = (true, true)),
        ("pending debug exceptions is 0x10", |s| s.pending_debug = 0x10),
        ("pending debug exceptions is 0x10000", |s| s.pending_debug = 1 << 16),
        ("pending debug exceptions is 0x4000", |s| (s.interruptibility, s.pending_debug) = (2, 1 << 14)),
        ("pending debug exceptions is 0x0", |s| (s.rflags, s.interruptibility) = (0x302, 1)),
        // type 7; without valid bit; a reserved bit; an interrupt with IF clear, or blocked
        ("event is 0x80000700", |s| s.event_info = 0x8000_0700),
        ("event is 0x20", |s| s.event_info = 0x20),
        ("event is 0x80001020", |s| (s.rflags, s.event_info) = (0x202, 0x8000_1020)),
        ("RFLAGS under an injected interrupt is 0x2 (SDM 26.3.1.4)", |s| s.event_info = 0x8000_0020),
        ("interruptibility under an injected event is 0x1 (SDM 26.3.1.5)", |s| {
            (s.rflags, s.event_info, s.interruptibility) = (0x202, 0x8000_0020, 1);
        }),
        // an NMI of another vector, one behind MOV SS; an exception 32, one of vector 2
        ("event is 0x80000203", |s| s.event_info = 0x8000_0203),
        ("injected event is 0x2", |s| (s.event_info, s.interruptibility) = (0x8000_0202, 2)),
        // fault 2.9: an NMI whose delivery exited, still blocked by itself
        ("injected event is 0x8 (SDM 26.3.1.5)", |s| (s.event_info, s.interruptibility) = (0x8000_0202, 8)),
        ("event is 0x80000320", |s| s.event_info = 0x8000_0320),
        ("event is 0x80000302", |s| s.event_info = 0x8000_0302),
        // #PF without error code, #UD with one, an error code too wide
        ("event is 0x8000030e", |s| s.event_info = 0x8000_030e),
        ("event is 0x80000b06", |s| s.event_info = 0x8000_0b06),
        ("event error code is 0x10000", |s| (s.event_info, s.event_error_code) = (0x8000_0b0e, 1 << 16)),
        ("event length is 0x0", |s| s.event_info = 0x8000_0480),
        ("event length is 0x10", |s| (s.event_info, s.event_length) = (0x8000_0480, 16)),
        ("IA32_PAT is 0x2", |s| s.pat = 2),
        ("IA32_SPEC_CTRL is 0x8", |s| s.spec_ctrl = Some(8)),
        ("MSR_MISC_FEATURES_ENABLES is 0x2", |s| s.misc_features = Some(2)),
        ("address IA32_LSTAR is 0x800000000000", |s| s.msrs[1] = 1 << 47),
        ("address IA32_CSTAR is", |s| s.msrs[2] = 1 << 47),
        ("IA32_FMASK is 0x100000000", |s| s.msrs[3] = 1 << 32),
        ("address IA32_KERNEL_GS_BASE is", |s| s.msrs[4] = 1 << 63),
        ("IA32_TSC_AUX is 0x100000000", |s| s.tsc_aux = 1 << 32),
        ("IA32_SYSENTER_CS is 0x100000000", |s| s.sysenter[0] = 1 << 32),
        ("address IA32_SYSENTER_ESP is", |s| s.sysenter[1] = 1 << 47),
        ("address IA32_SYSENTER_EIP is", |s| s.sysenter[2] = 1 << 47),
        ("GDTR address is", |s| s.gdtr.base = 1 << 47),
        ("IDTR address is", |s| s.idtr.base = 1 << 47),
        ("GDTR limit is 0x10000", |s| s.gdtr.limit = 0x1_0000),
        ("IDTR limit is 0x10000", |s| s.idtr.limit = 0x1_0000),
        ("RIP, an address, is 0x800000000000", |s| s.rip = 1 << 47),
        ("RIP, an address, is 0x100000000", |s| (s.segments[CS].rights, s.rip) = (0xc09b, 1 << 32)),
        ("CS access rights is 0xa19b", |s| s.segments[CS].rights |= 1 << 8),
        ("CS access rights is 0xe09b", |s| s.segments[CS].rights = 0xe09b),
        ("CS access rights is 0xa01b", |s| s.segments[CS].rights = 0xa01b),
        ("CS access rights is 0xa08b", |s| s.segments[CS].rights = 0xa08b),
        ("CS access rights is 0xa091", |s| s.segments[CS].rights = 0xa091),
        ("CS access rights is 0xa0fb", |s| s.segments[CS].rights = 0xa0fb),
        ("CS access rights is 0xa0ff", |s| s.segments[CS].rights = 0xa0ff),
        ("CS base is 0x100000000", |s| s.segments[CS].base = 1 << 32),
        ("CS limit is 0xfffffffe", |s| s.segments[CS].limit = u32::MAX - 1),
        ("SS access rights is 0xc095", |s| s.segments[SS].rights = 0xc095),
        ("SS limit is 0x100000", |s| (s.segments[SS].rights, s.segments[SS].limit) = (0x4093, 1 << 20)),
        ("ES access rights is 0xc092", |s| s.segments[0].rights = 0xc092),
        ("DS access rights is 0xc099", |s| s.segments[3].rights = 0xc099),
        ("ES access rights is 0x20c093", |s| s.segments[0].rights = 0x20_c093),
        ("DS base is 0x100000000", |s| s.segments[3].base = 1 << 32),
        ("FS address is 0x800000000000", |s| s.segments[4].base = 1 << 47),
        ("GS address is 0x800000000000", |s| s.segments[5].base = 1 << 47),
        ("LDTR access rights is 0x83", |s| s.segments[LDTR].rights = 0x83),
        ("LDTR selector is 0x4", |s| (s.segments[LDTR].rights, s.segments[LDTR].selector) = (0x82, 4)),
        ("LDTR address is", |s| s.segments[LDTR].base = 1 << 47),
        ("TR access rights is 0x83", |s| s.segments[TR].rights = 0x83),
        ("TR access rights is 0x1008b", |s| s.segments[TR].rights = 0x1_008b),
        ("TR access rights is 0x9b", |s| s.segments[TR].rights = 0x9b),
        ("TR selector is 0x44", |s| s.segments[TR].selector = 0x44),
        ("TR address is", |s| s.segments[TR].base = 1 << 63),
        ("XSAVE area is of 575 bytes", |s| s.xsave.truncate(575)),
        ("XSAVE area is of 4097 bytes", |s| s.xsave.resize(4097, 0)),
        ("XSTATE_BV is 0xff, the level has 0x7", |s| s.xsave[512] = 0xff),
        ("XSAVE area: XSAVE header: byte 520 is 0x1", |s| s.xsave[520] = 1),
        ("XSAVE area: XSAVE header: byte 575 is 0x1", |s| s.xsave[575] = 1),
        ("MXCSR is 0x10000", |s| s.xsave[26] = 1),
        ("XSAVE area: MXCSR_MASK: byte 28 is 0xff", |s| s.xsave[28] = 0xff),
        ("XSAVE area: legacy region: byte 416 is 0x1", |s| s.xsave[416] = 1),
        ("XSAVE area: component that XSTATE_BV leaves out: byte 600 is 0x1", |s| s.xsave[600] = 1),
        ("byte 1152 is 0x9", |s| {
            s.xsave.resize(4096, 0);
            (s.xsave[512], s.xsave[1152]) = (7, 9);
        }),
    ];
    for (name, spoil) in cases {
        let mut state = valid();
        spoil(&mut state);
        let error = state.check(&LIMITS, 7, 7).expect_err(name);
        assert!(error.contains(name), "{name}: {error}");
    }
}

#[test]
fn other_modes_have_their_own_rules() {
    let refused = |mut state: VcpuState, spoil: Spoil, name: &str| {
        spoil(&mut state);
        let error = state.check(&LIMITS, 7, 7).expect_err(name);
        assert!(error.contains(name), "{name}: {error}");
    };
    refused(virtual_8086(), |s| s.segments[3].base = 0x2000, "DS base is 0x2000");
    refused(virtual_8086(), |s| s.segments[CS].limit = 0xfffff, "CS limit is 0xfffff");
    refused(virtual_8086(), |s| s.segments[SS].rights = 0x93, "SS access rights is 0x93");
    refused(virtual_8086(), |s| s.rip = 1 << 32, "RIP");
    refused(valid(), |s| s.rflags |= 1 << 17, "RFLAGS is 0x20002");
    refused(real(), |s| s.rflags |= 1 << 17, "RFLAGS is 0x20002");
    refused(real(), |s| s.segments[SS].rights = 0xf3, "SS access rights is 0xf3");
    refused(real(), |s| s.event_info = 0x8000_0b0d, "event is 0x80000b0d"); // no error codes in real mode
    let limits = Limits { cr4: LIMITS.cr4 | CR4_PCIDE, ..LIMITS };
    let mut pcide = virtual_8086();
    pcide.cr4 |= CR4_PCIDE;
    assert_eq!(pcide.check(&limits, 7, 7), Err("CR4 is 0x20000 (SDM 26.3.1.1)".into()));
    let no_xsave = VcpuState { xcr0: 3, ..valid() };
    assert_eq!(no_xsave.check(&LIMITS, 0, 7), Err("XCR0 is 0x3".into()));
    assert_eq!(VcpuState { xcr0: 1, ..valid() }.check(&LIMITS, 0, 7), Ok(()));
}

/// SDM 26.3.1.2: more is asked of a guest where the CPU lacks unrestricted guest, as Nehalem does.
#[test]
fn without_unrestricted_guest_privileges_must_agree() {
    let nehalem = Limits { unrestricted: false, ..LIMITS };
    let mut user = valid();
    for number in [CS, SS] {
        user.segments[number].rights |= 3 << 5;
        user.segments[number].selector |= 3;
    }
    let mut data = user.clone();
    for number in [0, 3, 4, 5] {
        data.segments[number].rights |= 3 << 5;
        data.segments[number].selector |= 3;
    }
    // 64-bit mode after an interrupt from user mode: SS is null, and keeps the privilege.
    let mut null = valid();
    null.segments[SS] = SegmentState { selector: 0, base: 0, limit: 0, rights: 0x1_0000 };
    for (number, state) in [valid(), virtual_8086(), real(), user.clone(), data, null].iter().enumerate() {
        assert_eq!(state.check(&nehalem, 7, 7), Ok(()), "{number}");
    }
    let cases: &[(&str, Spoil)] = &[
        // CR0.PE is set, and the far jump is still to come.
        ("CS access rights is 0x93", |s| (s.segments[CS].rights, s.segments[CS].limit) = (0x93, 0xffff)),
        ("SS selector is 0x1b", |s| s.segments[SS].selector = 0x1b),
        ("SS access rights is 0xc0b3", |s| (s.segments[CS].rights, s.segments[SS].rights) = (0xc09f, 0xc0b3)),
        ("ES access rights is 0xc093", |s| s.segments[0].selector |= 3),
        ("DS access rights is 0xc093", |s| s.segments[3].selector |= 1),
        ("FS access rights is 0xc09b", |s| (s.segments[4].rights, s.segments[4].selector) = (0xc09b, 0x1a)),
        ("GS access rights is 0xc093", |s| s.segments[5].selector |= 2),
    ];
    for (name, spoil) in cases {
        let mut state = valid();
        (state.efer, state.segments[CS].rights) = (0, 0xc09b);
        spoil(&mut state);
        assert_eq!(state.check(&LIMITS, 7, 7), Ok(()), "{name}: with unrestricted guest");
        assert_eq!(state.check(&nehalem, 7, 7), Err(format!("{name} (SDM 26.3.1.2)")));
    }
    let mut conforming = valid();
    (conforming.segments[3].rights, conforming.segments[3].selector) = (0xc09f, 0x1b);
    assert_eq!(conforming.check(&nehalem, 7, 7), Ok(()), "a conforming segment has no privilege of its own");
    let mut unusable = valid();
    (unusable.segments[5].rights, unusable.segments[5].selector) = (0x1_0000, 3);
    assert_eq!(unusable.check(&nehalem, 7, 7), Ok(()));
}

#[test]
fn an_xsave_area_is_cleaned_of_what_the_level_lacks() {
    for allowed in [0, 3, 7, 0xe7, 0x2e7] {
        for bv in [0, 1, 3, 7, 0x1f, 0xe7, 0x2ff] {
            let mut area = vec![0xa5; XSAVE_MAX];
            area[512..520].copy_from_slice(&u64::to_le_bytes(bv));
            area[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
            let dirty = area.clone();
            clean_xsave(&mut area, allowed);
            let kept = bv & (allowed | 3);
            assert_eq!(area[512..520], kept.to_le_bytes());
            // What the guest has is as it was.
            assert_eq!((&area[..28], &area[32..416]), (&dirty[..28], &dirty[32..416]));
            for (bit, at, len) in
                [(2, 576, 256), (5, 1088, 64), (6, 1152, 512), (7, 1664, 1024), (9, 2688, 8)]
            {
                let byte = if kept >> bit & 1 != 0 { 0xa5 } else { 0 };
                assert!(
                    area[at..at + len].iter().all(|b| *b == byte),
                    "{allowed:#x} {bv:#x}: component {bit}"
                );
            }
            assert!([832, 959, 2696, 4095].iter().all(|at| area[*at] == 0), "no component");
            assert_eq!(VcpuState { xcr0: 1, xsave: area, ..valid() }.check(&LIMITS, allowed, 7), Ok(()));
            if bv & !3 != 0 || allowed == 0 {
                let state = VcpuState { xcr0: 1, xsave: dirty, ..valid() };
                assert!(state.check(&LIMITS, allowed, 7).is_err());
            }
        }
    }
    let mut short = vec![1; 100];
    clean_xsave(&mut short, 7);
    assert_eq!(short, vec![1; 100]);
}

#[test]
fn arbitrary_bytes_never_panic() {
    let good = valid().to_bytes();
    for at in 0..good.len() {
        for value in [0, 0x7f, 0xff, good[at] ^ 1] {
            let mut bytes = good.clone();
            bytes[at] = value;
            if let Ok(state) = VcpuState::from_bytes(&bytes) {
                let _ = state.check(&LIMITS, 7, 7);
            }
        }
        assert!(VcpuState::from_bytes(&good[..at]).is_err());
    }
}
