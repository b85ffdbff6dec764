//! How a VM's vCPUs are laid out in packages, cores and threads, and the APIC ids that follow from it.

use core::fmt;

/// Packages, cores in each, threads in each core: written `SOCKETS:CORES:THREADS`.
///
/// An APIC id has a field for each level, the thread's lowest, as many bits wide as its numbers need (SDM 3A 9.9.1 to 9.9.3). This
/// version's ids are the numbers of the vCPUs, without gaps. So all fields but the topmost that is used are full:
/// [`Topology::check`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Packages.
    pub sockets: u32,
    /// Cores in each package.
    pub cores: u32,
    /// Threads in each core.
    pub threads: u32,
}

/// Why vCPUs cannot be laid out so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopologyError {
    /// A level has nothing in it.
    #[error("topology={0}: each part is at least 1")]
    Zero(Topology),
    /// Another number of vCPUs than the VM has.
    #[error("topology={topology} makes {} vCPUs, the VM has vcpus={vcpus}", .topology.vcpus())]
    Product {
        /// What was asked for.
        topology: Topology,
        /// vCPUs of the VM.
        vcpus: u32,
    },
    /// APIC ids would have gaps.
    #[error(
        "topology={0}: threads and cores of topology= are powers of two where there is more than one of what holds them"
    )]
    Gaps(Topology),
}

impl Topology {
    /// One package of cores with one thread each.
    #[must_use]
    pub const fn flat(vcpus: u32) -> Self {
        Self { sockets: 1, cores: vcpus, threads: 1 }
    }

    /// Reads `SOCKETS:CORES:THREADS`: three decimal numbers of at most five digits. They are not judged.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(|part| {
            let digits = (1..=5).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if digits { part.parse::<u32>().ok() } else { None }
        });
        let (sockets, cores, threads) = (parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(Self { sockets, cores, threads })
    }

    /// All vCPUs.
    #[must_use]
    pub const fn vcpus(&self) -> u32 {
        self.sockets.saturating_mul(self.cores).saturating_mul(self.threads)
    }

    /// vCPUs of one package.
    #[must_use]
    pub const fn per_socket(&self) -> u32 {
        self.cores.saturating_mul(self.threads)
    }

    /// Bits of an APIC id that number the threads of a core.
    #[must_use]
    pub const fn thread_bits(&self) -> u32 {
        bits(self.threads)
    }

    /// Bits of an APIC id that number the vCPUs of a package: what is above them is the package's number.
    #[must_use]
    pub const fn socket_shift(&self) -> u32 {
        bits(self.cores) + bits(self.threads)
    }

    /// Whether a VM with so many vCPUs can have it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub const fn check(&self, vcpus: u32) -> Result<(), TopologyError> {
        let Self { sockets, cores, threads } = *self;
        if sockets == 0 || cores == 0 || threads == 0 {
            return Err(TopologyError::Zero(*self));
        }
        if self.vcpus() != vcpus {
            return Err(TopologyError::Product { topology: *self, vcpus });
        }
        let threads_fit = threads.is_power_of_two() || sockets == 1 && cores == 1;
        let cores_fit = cores.is_power_of_two() || sockets == 1;
        if threads_fit && cores_fit { Ok(()) } else { Err(TopologyError::Gaps(*self)) }
    }
}

/// Bits that number so many things.
const fn bits(count: u32) -> u32 {
    if count <= 1 { 0 } else { u32::BITS - (count - 1).leading_zeros() }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.sockets, self.cores, self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn of(text: &str) -> Topology {
        Topology::parse(text).unwrap()
    }

    #[test]
    fn three_numbers_are_one() {
        let topology = of("2:4:1");
        assert_eq!(topology, Topology { sockets: 2, cores: 4, threads: 1 });
        assert_eq!((topology.to_string().as_str(), topology.vcpus(), topology.per_socket()), ("2:4:1", 8, 4));
        assert_eq!(Topology::flat(3).to_string(), "1:3:1");
        for wrong in ["", "4", "1:4", "1:4:", ":4:1", "1:4:1:1", "1:+4:1", "1:4:x", "1: 4:1", "1:123456:1"] {
            assert_eq!(Topology::parse(wrong), None, "{wrong}");
        }
        assert_eq!(of("99999:99999:99999").vcpus(), u32::MAX, "no number is too large to be judged");
    }

    #[test]
    fn what_cannot_be_is_named() {
        let why = |text: &str, vcpus| of(text).check(vcpus).unwrap_err().to_string();
        assert_eq!(why("2:2:2", 4), "topology=2:2:2 makes 8 vCPUs, the VM has vcpus=4");
        for zero in ["0:1:1", "1:0:1", "1:1:0", "0:0:0"] {
            assert_eq!(why(zero, 1), alloc::format!("topology={zero}: each part is at least 1"));
        }
        const GAPS: &str = "threads and cores of topology= are powers of two where there is more than one of what holds them";
        for (gaps, vcpus) in [("2:3:1", 6), ("1:2:3", 6), ("2:1:3", 6), ("2:3:2", 12)] {
            assert_eq!(why(gaps, vcpus), alloc::format!("topology={gaps}: {GAPS}"));
        }
        // The topmost level that has more than one may have any number.
        for (fits, vcpus) in
            [("1:3:1", 3), ("1:1:3", 3), ("3:1:1", 3), ("3:4:2", 24), ("1:3:2", 6), ("1:63:1", 63)]
        {
            assert_eq!(of(fits).check(vcpus), Ok(()), "{fits}");
        }
    }

    #[test]
    fn fields_are_as_wide_as_their_numbers_need() {
        for (text, thread_bits, socket_shift) in [
            ("1:1:1", 0, 0),
            ("1:3:1", 0, 2),
            ("1:4:1", 0, 2),
            ("2:4:2", 1, 3),
            ("1:1:3", 2, 2),
            ("1:64:1", 0, 6),
        ] {
            let topology = of(text);
            assert_eq!(
                (topology.thread_bits(), topology.socket_shift()),
                (thread_bits, socket_shift),
                "{text}"
            );
        }
    }
}
