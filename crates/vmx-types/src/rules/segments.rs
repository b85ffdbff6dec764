//! Rules for segment registers (SDM 26.3.1.2).

use super::{GuestRegs, Mode, Verdict, canonical, need};
use crate::field::Segment;
use crate::paging::CR0_PE;
use crate::state::SegmentState;

const RULE: &str = "26.3.1.2";
const UNUSABLE: u32 = 1 << 16;
const CODE_OR_DATA: u32 = 1 << 4;
const PRESENT: u32 = 1 << 7;
const LONG: u32 = 1 << 13;
const DEFAULT_32: u32 = 1 << 14;
const GRANULARITY: u32 = 1 << 15;

/// The words for the fields of a segment register: selector, base, limit, access rights.
pub(crate) const SEGMENT_WORDS: [[&str; 4]; 8] = [
    ["ES selector", "ES base", "ES limit", "ES access rights"],
    ["CS selector", "CS base", "CS limit", "CS access rights"],
    ["SS selector", "SS base", "SS limit", "SS access rights"],
    ["DS selector", "DS base", "DS limit", "DS access rights"],
    ["FS selector", "FS address", "FS limit", "FS access rights"],
    ["GS selector", "GS address", "GS limit", "GS access rights"],
    ["LDTR selector", "LDTR address", "LDTR limit", "LDTR access rights"],
    ["TR selector", "TR address", "TR limit", "TR access rights"],
];

impl SegmentState {
    /// True unless access-rights bit 16 is set.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.rights & UNUSABLE == 0
    }

    /// DPL.
    #[must_use]
    pub const fn dpl(&self) -> u32 {
        self.rights >> 5 & 3
    }

    /// L: 64-bit code.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.rights & LONG != 0
    }

    const fn kind(&self) -> u32 {
        self.rights & 0xf
    }

    const fn rpl(&self) -> u32 {
        self.selector as u32 & 3
    }

    /// The limit is one that G can give.
    const fn limit_fits(&self) -> bool {
        if self.rights & GRANULARITY == 0 { self.limit >> 20 == 0 } else { self.limit & 0xfff == 0xfff }
    }
}

impl GuestRegs {
    pub(crate) fn check_segments(&self, mode: &Mode) -> Verdict {
        for segment in Segment::ALL {
            self.check_segment(segment)?;
        }
        if mode.unrestricted || self.virtual_8086 { Ok(()) } else { self.check_privileges() }
    }

    fn check_segment(&self, which: Segment) -> Verdict {
        let segment = &self.segments[which as usize];
        let [selector, base_name, limit, access] = SEGMENT_WORDS[which as usize];
        let (rights, base) = (segment.rights, segment.base);
        let system = matches!(which, Segment::Ldtr | Segment::Tr);
        let counts = segment.is_usable() || matches!(which, Segment::Cs | Segment::Tr);
        let right = |ok: bool| need(ok, RULE, access, rights.into());
        if self.virtual_8086 && !system {
            need(base == u64::from(segment.selector) << 4, RULE, base_name, base)?;
            need(segment.limit == 0xffff, RULE, limit, segment.limit.into())?;
            return right(rights == 0xf3);
        }
        if system && counts {
            need(segment.selector & 4 == 0, RULE, selector, segment.selector.into())?;
        }
        let base_is_legal = match which {
            Segment::Tr | Segment::Fs | Segment::Gs => canonical(base),
            Segment::Ldtr => !counts || canonical(base),
            _ => !counts || base >> 32 == 0,
        };
        need(base_is_legal, RULE, base_name, base)?;
        if !counts {
            return Ok(());
        }
        right(rights & !0x1_f0ff == 0)?;
        let kind = segment.kind();
        let code = &self.segments[Segment::Cs as usize];
        let ss_dpl = self.segments[Segment::Ss as usize].dpl();
        right(match which {
            Segment::Cs => match kind {
                3 => segment.dpl() == 0,
                9 | 11 => segment.dpl() == ss_dpl,
                13 | 15 => segment.dpl() <= ss_dpl,
                _ => false,
            },
            Segment::Ss => {
                let ring_0 = code.kind() == 3 || self.cr0 & CR0_PE == 0;
                matches!(kind, 3 | 7) && (!ring_0 || segment.dpl() == 0)
            }
            Segment::Ldtr => kind == 2,
            Segment::Tr => segment.is_usable() && (kind == 11 || kind == 3 && !self.ia32e),
            _ => kind & 1 != 0 && (kind & 8 == 0 || kind & 2 != 0),
        })?;
        right((rights & CODE_OR_DATA != 0) != system && rights & PRESENT != 0)?;
        let both_sizes =
            which == Segment::Cs && self.ia32e && rights & (LONG | DEFAULT_32) == LONG | DEFAULT_32;
        right(!both_sizes)?;
        need(segment.limit_fits(), RULE, limit, segment.limit.into())
    }

    /// What only CPUs without unrestricted guest ask of selectors and access rights. They run no real mode, and a guest
    /// between setting CR0.PE and its far jump does not fulfil it.
    fn check_privileges(&self) -> Verdict {
        let [_, code, stack, ..] = &self.segments;
        need(matches!(code.kind(), 9 | 11 | 13 | 15), RULE, "CS access rights", code.rights.into())?;
        need(stack.rpl() == code.rpl(), RULE, "SS selector", stack.selector.into())?;
        need(stack.dpl() == stack.rpl(), RULE, "SS access rights", stack.rights.into())?;
        for which in [Segment::Es, Segment::Ds, Segment::Fs, Segment::Gs] {
            let segment = &self.segments[which as usize];
            let conforming = segment.kind() & 0xc == 0xc;
            let legal = !segment.is_usable() || conforming || segment.dpl() >= segment.rpl();
            need(legal, RULE, SEGMENT_WORDS[which as usize][3], segment.rights.into())?;
        }
        Ok(())
    }
}
