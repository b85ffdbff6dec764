//! A machine for instructions: RAM, one device register everywhere else, ports.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::cell::RefCell;

use vm_types::{Gpa, GuestMemory, MemRange, MemoryError};
use x86_decode::{CodeSize, Cpu, Gprs, Machine, PagingState, Segment, SegmentRegister, Vector};

pub struct Ram {
    range: [MemRange; 1],
    bytes: RefCell<Vec<u8>>,
}

impl Ram {
    pub fn new(len: usize) -> Self {
        Ram { range: [MemRange { start: Gpa(0), len: len as u64 }], bytes: RefCell::new(vec![0; len]) }
    }

    pub fn put64(&self, at: u64, value: u64) {
        self.write(Gpa(at), &value.to_le_bytes()).unwrap();
    }

    pub fn get64(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(Gpa(at), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }
}

impl GuestMemory for Ram {
    fn ranges(&self) -> &[MemRange] {
        &self.range
    }

    fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let start = usize::try_from(gpa.0).unwrap_or(usize::MAX);
        let bytes = self.bytes.borrow();
        let part = bytes.get(start..start.saturating_add(buf.len()));
        buf.copy_from_slice(part.ok_or(MemoryError { gpa, len: buf.len() })?);
        Ok(())
    }

    fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), MemoryError> {
        let start = usize::try_from(gpa.0).unwrap_or(usize::MAX);
        let mut bytes = self.bytes.borrow_mut();
        let part = bytes.get_mut(start..start.saturating_add(data.len()));
        part.ok_or(MemoryError { gpa, len: data.len() })?.copy_from_slice(data);
        Ok(())
    }
}

/// What the board was asked for: `r`ead, `w`rite, `i`nput, `o`utput, address or port, size, value.
pub type Cycle = (char, u64, u8, u64);

pub struct Board {
    pub ram: Ram,
    /// What every device address and port reads; a write to a device changes it.
    pub value: u64,
    pub log: Vec<Cycle>,
    pub segments: [SegmentRegister; 6],
    pub pkru: u32,
    pub vectors: [Vector; 16],
    pub lmsw: Option<u16>,
}

pub const FLAT: SegmentRegister = SegmentRegister { base: 0, limit: u32::MAX, rights: 0xC093 };

impl Board {
    pub fn new(ram: usize, value: u64) -> Self {
        Board {
            ram: Ram::new(ram),
            value,
            log: Vec::new(),
            segments: [FLAT; 6],
            pkru: 0,
            vectors: [[0xEE; 64]; 16],
            lmsw: None,
        }
    }
}

pub fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size))
}

impl Machine for Board {
    type Ram = Ram;

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn segment(&self, segment: Segment) -> SegmentRegister {
        self.segments[segment as usize]
    }

    fn pkru(&mut self) -> u32 {
        self.pkru
    }

    fn load(&mut self, gpa: Gpa, size: u8) -> u64 {
        assert!(matches!(size, 1 | 2 | 4 | 8));
        self.log.push(('r', gpa.0, size, self.value & ones(size)));
        self.value & ones(size)
    }

    fn store(&mut self, gpa: Gpa, size: u8, value: u64) {
        assert!(matches!(size, 1 | 2 | 4 | 8));
        assert_eq!(value & !ones(size), 0);
        self.log.push(('w', gpa.0, size, value));
        self.value = self.value & !ones(size) | value;
    }

    fn input(&mut self, port: u16, size: u8) -> u32 {
        assert!(matches!(size, 1 | 2 | 4));
        self.log.push(('i', port.into(), size, self.value & ones(size)));
        (self.value & ones(size)) as u32
    }

    fn output(&mut self, port: u16, size: u8, value: u32) {
        assert!(matches!(size, 1 | 2 | 4));
        assert_eq!(u64::from(value) & !ones(size), 0);
        self.log.push(('o', port.into(), size, value.into()));
    }

    fn vector(&mut self, register: u8) -> Vector {
        self.vectors[usize::from(register)]
    }

    fn set_vector(&mut self, register: u8, value: &Vector) {
        self.vectors[usize::from(register)] = *value;
    }

    fn lmsw(&mut self, word: u16) {
        self.lmsw = Some(word);
    }
}

/// A processor without paging.
pub fn cpu(code: CodeSize, gprs: Gprs) -> Cpu {
    let paging = PagingState { cr0: 1, cr3: 0, cr4: 0, efer: 0, pdptes: [0; 4], phys_bits: 46 };
    Cpu { gprs, rflags: 2, rip: 0x1000, code, cpl: 0, paging }
}
