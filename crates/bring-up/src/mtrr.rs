//! Memory types: MTRRs and PAT must be the same on every CPU (SDM 11.11.8), and RAM must be write-back.

/// The registers of the calling CPU.
pub trait Msrs {
    /// Reads a register that is there.
    fn read(&mut self, msr: u32) -> u64;
    /// Writes one.
    fn write(&mut self, msr: u32, value: u64);
}

pub use x86::msr::PAT;
/// Its value after a reset, by which the kernel's page tables are written (SDM 11.12.4).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const CAP: u32 = 0xfe;
const DEF_TYPE: u32 = 0x2ff;
const DEF_TYPE_ENABLE: u64 = 1 << 11;
const DEF_TYPE_FIXED: u64 = 1 << 10;
const BASE0: u32 = 0x200;
const MASK_VALID: u64 = 1 << 11;
const FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
/// More variable ranges than any CPU has.
const MOST: usize = 16;
const WRITE_BACK: u8 = 6;

/// The MTRRs of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mtrrs {
    def_type: u64,
    fixed: Option<[u64; 11]>,
    variable: [[u64; 2]; MOST],
    count: usize,
}

impl Mtrrs {
    /// Those of the calling CPU, which has CPUID.1:EDX.MTRR.
    pub fn read(msrs: &mut impl Msrs) -> Self {
        let cap = msrs.read(CAP);
        let count = (cap & 0xff).min(MOST as u64) as usize;
        let mut variable = [[0; 2]; MOST];
        for (pair, base) in variable.iter_mut().take(count).zip((BASE0..).step_by(2)) {
            *pair = [msrs.read(base), msrs.read(base + 1)];
        }
        let fixed = (cap & 1 << 8 != 0).then(|| FIXED.map(|msr| msrs.read(msr)));
        Self { def_type: msrs.read(DEF_TYPE), fixed, variable, count }
    }

    /// Writes them to the calling CPU, where its own differ; its caches are off and empty, and no interrupt comes (SDM
    /// 11.11.7.2). MTRRs are off meanwhile, on at last.
    pub fn load(&self, msrs: &mut impl Msrs) {
        msrs.write(DEF_TYPE, self.def_type & !DEF_TYPE_ENABLE);
        for (msr, value) in FIXED.into_iter().zip(self.fixed.into_iter().flatten()) {
            msrs.write(msr, value);
        }
        for (pair, base) in self.variable.iter().take(self.count).zip((BASE0..).step_by(2)) {
            msrs.write(base, pair[0]);
            msrs.write(base + 1, pair[1]);
        }
        msrs.write(DEF_TYPE, self.def_type);
    }

    /// The type of the page at `at` (SDM 11.11.4.1), on a CPU with addresses of `width` bits. None where ranges overlap in a
    /// way that the SDM leaves open.
    pub fn page_type(&self, at: u64, width: u8) -> Option<u8> {
        if self.def_type & DEF_TYPE_ENABLE == 0 {
            return Some(0);
        }
        if let Some(fixed) = self.fixed
            && at < 1 << 20
            && self.def_type & DEF_TYPE_FIXED != 0
        {
            let (index, unit) = match at {
                0..0x8_0000 => (0, at >> 16),
                0x8_0000..0xc_0000 => (1 + ((at - 0x8_0000) >> 17), at >> 14 & 7),
                _ => (3 + ((at - 0xc_0000) >> 15), at >> 12 & 7),
            };
            return Some((fixed[index as usize] >> (unit * 8)) as u8);
        }
        let address_bits = ((1_u64 << width.min(52)) - 1) & !0xfff;
        let mut found: Option<u8> = None;
        for [base, mask] in self.variable.into_iter().take(self.count) {
            let bits = mask & address_bits;
            if mask & MASK_VALID == 0 || at & bits != base & bits {
                continue;
            }
            let kind = base as u8;
            found = Some(match found {
                None => kind,
                Some(other) if other == kind => kind,
                Some(0) => 0,
                _ if kind == 0 => 0,
                Some(4) if kind == WRITE_BACK => 4,
                Some(WRITE_BACK) if kind == 4 => 4,
                _ => return None,
            });
        }
        Some(found.unwrap_or(self.def_type as u8))
    }

    /// The first page of `start..end` that is not write-back, looked at every 1 MiB: no range of RAM is smaller in firmware
    /// that works.
    pub fn not_write_back(&self, start: u64, end: u64, width: u8) -> Option<(u64, Option<u8>)> {
        const STEP: u64 = 1 << 20;
        let mut at = start & !0xfff;
        while at < end {
            let kind = self.page_type(at, width);
            if kind != Some(WRITE_BACK) {
                return Some((at, kind));
            }
            at = (at | (STEP - 1)).saturating_add(1);
        }
        None
    }
}
