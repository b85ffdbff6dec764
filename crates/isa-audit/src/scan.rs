//! Going through the code of a page.

use x86_decode::CodeSize;

use crate::decode::{Flow, Undecodable, decode};
use crate::findings::{Bounds, Findings, Site};

const PAGE: usize = x86::PAGE_SIZE as usize;

/// A page of guest code.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Its 4096 bytes, and up to 14 of the page that follows in linear memory: the last instruction may cross over.
    pub code: &'a [u8],
    /// Guest-linear address of the first byte.
    pub linear: u64,
    /// Guest-physical address of the first byte.
    pub gpa: u64,
    /// Mode in which it is executed.
    pub mode: CodeSize,
}

/// A bit for each byte of a page.
struct Bits([u64; PAGE / 64]);

impl Bits {
    const fn new() -> Self {
        Self([0; PAGE / 64])
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    /// Outside the page, nothing.
    fn set(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn take_first(&mut self) -> Option<usize> {
        let at = self.0.iter().position(|word| *word != 0)?;
        let bit = self.0[at].trailing_zeros() as usize;
        self.0[at] &= self.0[at] - 1;
        Some(at * 64 + bit)
    }
}

/// Decodes what execution from `entry`, an offset in the page, leads to within the page: straight on, and by direct
/// branches; then the bytes that are left. What lies outside `bounds.has` goes into `findings`.
pub fn scan(page: &Page<'_>, entry: usize, bounds: &Bounds, findings: &mut Findings) {
    findings.pages = findings.pages.saturating_add(1);
    let mut walk = Walk { page, bounds, findings, covered: Bits::new() };
    walk.follow(entry);
    walk.sweep();
}

struct Walk<'a> {
    page: &'a Page<'a>,
    bounds: &'a Bounds,
    findings: &'a mut Findings,
    /// Bytes of instructions decoded so far.
    covered: Bits,
}

impl Walk<'_> {
    fn follow(&mut self, entry: usize) {
        let mut begun = Bits::new();
        let mut pending = Bits::new();
        pending.set(entry);
        while let Some(mut at) = pending.take_first() {
            while at < PAGE && !begun.has(at) {
                begun.set(at);
                self.findings.instructions = self.findings.instructions.saturating_add(1);
                let Ok((next, flow)) = self.one(at, true) else {
                    self.findings.undecodable = self.findings.undecodable.saturating_add(1);
                    break;
                };
                let target = |distance: i32| usize::try_from(next as i64 + i64::from(distance));
                match flow {
                    Flow::Next => {}
                    Flow::Branch(distance) => pending.set(target(distance).unwrap_or(PAGE)),
                    Flow::Jump(distance) => {
                        pending.set(target(distance).unwrap_or(PAGE));
                        break;
                    }
                    Flow::End => break,
                }
                at = next;
            }
        }
    }

    fn sweep(&mut self) {
        let mut at = 0;
        while at < PAGE {
            at = if self.covered.has(at) || self.is_padding(at) {
                at + 1
            } else {
                self.one(at, false).map_or(at + 1, |(next, _)| next)
            };
        }
    }

    /// INT3, and zeros in a row: what lies between functions, and most of a page of data.
    fn is_padding(&self, at: usize) -> bool {
        match self.page.code.get(at) {
            Some(0xcc) => true,
            Some(0) => self.page.code.get(at + 1) == Some(&0),
            _ => false,
        }
    }

    /// Decodes the instruction at `at`; answers with the offset behind it.
    fn one(&mut self, at: usize, reached: bool) -> Result<(usize, Flow), Undecodable> {
        let bytes = self.page.code.get(at..).unwrap_or_default();
        let insn = decode(bytes, self.page.mode)?;
        let end = at + usize::from(insn.len);
        for byte in at..end {
            self.covered.set(byte);
        }
        let features = insn.class.features();
        if !features.is_empty() {
            let (linear, gpa) =
                (self.page.linear.wrapping_add(at as u64), self.page.gpa.wrapping_add(at as u64));
            let bytes = &bytes[..usize::from(insn.len)];
            let site = Site { reached, linear, gpa, bytes };
            self.findings.record(features, insn.class.without(), self.bounds, site);
        }
        Ok((end, insn.flow))
    }
}
