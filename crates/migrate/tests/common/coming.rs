//! A VM at its target.

use super::*;

#[derive(Default)]
pub struct Coming {
    pub ranges: Vec<PageRange>,
    pub pages: Vec<Page>,
    pub states: Vec<StateRecord>,
    pub runs: bool,
    pub elapsed_ns: u64,
    pub made: bool,
    pub create_delay: u32,
    pub refuse: Option<String>,
    pub stores: bool,
    pub no_memory: bool,
    pub bad_state: Option<String>,
    pub policy: Vec<u8>,
    pub companion: Vec<u8>,
    /// What came of the guest's console.
    pub printed: Vec<Vec<u8>>,
    /// What it has to say of a VM that it takes.
    pub warning: Option<String>,
    pub page_writes: u64,
    /// Digests of files that the host holds already, and the longest that it takes along; 0: any.
    pub has: Vec<migrate::origin::Sha256>,
    pub max_file: u64,
    pub origin: Option<migrate::Origin>,
    /// Files that have come, and those that are whole.
    pub files: std::collections::BTreeMap<u32, Vec<u8>>,
    pub whole: Vec<u32>,
    pub log: Log,
}

impl TargetMemory for Coming {
    fn write_page(&mut self, gfn: u64, page: &Page) -> Result<(), MemoryError> {
        assert!(self.made && !self.runs);
        self.page_writes += 1;
        self.pages[index(&self.ranges, gfn).ok_or(no_ram(gfn))?] = *page;
        Ok(())
    }

    fn fill_page(&mut self, gfn: u64, word: u64) -> Result<(), MemoryError> {
        let mut page = [0; PAGE_BYTES];
        for chunk in page.chunks_exact_mut(8) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        self.write_page(gfn, &page)
    }

    fn read_page(&self, gfn: u64, page: &mut Page) -> Result<(), MemoryError> {
        assert!(self.made && !self.runs);
        *page = self.pages[index(&self.ranges, gfn).ok_or(no_ram(gfn))?];
        Ok(())
    }
}

impl TargetVm for Coming {
    fn stores(&self) -> bool {
        self.stores
    }

    fn take_history(&mut self, piece: &[u8]) {
        assert!(self.made && !self.runs);
        self.printed.push(piece.to_vec());
    }

    fn wants(&mut self, origin: &migrate::Origin) -> Vec<u32> {
        assert!(self.made && !self.runs);
        self.origin = Some(origin.clone());
        let lacks = |file: &migrate::OriginFile| {
            file.sha256.is_some_and(|sha256| !self.has.contains(&sha256))
                && (self.max_file == 0 || file.len <= self.max_file)
        };
        (0..).zip(&origin.files).filter(|(_, file)| lacks(file)).map(|(number, _)| number).collect()
    }

    fn take_file(&mut self, number: u32, bytes: &[u8]) -> Result<(), String> {
        assert!(self.made && !self.runs && !bytes.is_empty());
        self.files.entry(number).or_default().extend(bytes);
        Ok(())
    }

    fn end_file(&mut self, number: u32) -> Result<(), String> {
        self.whole.push(number);
        Ok(())
    }

    fn check(&mut self, offer: &Offer<'_>) -> Result<(), String> {
        self.policy = offer.policy.to_vec();
        self.companion = offer.companion.to_vec();
        self.log.push("check");
        self.refuse.clone().map_or(Ok(()), Err)
    }

    fn warning(&mut self, offer: &Offer<'_>) -> Option<String> {
        assert_eq!(offer.companion, self.companion);
        self.warning.clone()
    }

    fn create(&mut self, offer: &Offer<'_>) -> Poll<Result<(), String>> {
        if self.create_delay > 0 {
            self.create_delay -= 1;
            return Poll::Pending;
        }
        // A fuzzed shape may ask for a terabyte.
        if self.no_memory || offer.shape.pages() > 4096 {
            return Poll::Ready(Err(format!("needs {} pages, 0 are free", offer.shape.pages())));
        }
        self.ranges = offer.shape.ranges.clone();
        self.pages = vec![[0; PAGE_BYTES]; offer.shape.pages() as usize];
        self.made = true;
        self.log.push("create");
        Poll::Ready(Ok(()))
    }

    fn import_state(&mut self, records: &[StateRecord]) -> Result<(), StateError> {
        assert!(self.made);
        if let Some(why) = &self.bad_state {
            return Err(StateError { kind: "vcpu".into(), why: why.clone() });
        }
        self.states = records.to_vec();
        self.log.push("import");
        Ok(())
    }

    fn run(&mut self, elapsed_ns: u64) {
        assert!(self.made && !self.runs);
        self.runs = true;
        self.elapsed_ns = elapsed_ns;
        self.log.push("run");
    }

    fn destroy(&mut self) {
        assert!(!self.runs, "destroyed while it runs");
        self.made = false;
        self.pages.clear();
        self.files.clear();
        self.whole.clear();
        self.log.push("destroy");
    }
}
