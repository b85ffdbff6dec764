//! What is compared with what, and how it is printed.

use testbench::emu::IPS;

/// All figures, in the order in which they are printed.
pub(super) const KEYS: [&str; 44] = [
    "cpuid_exit",
    "cpuid_exit_mitigated",
    "cpuid_exit_4_vcpus",
    "rdmsr_exit",
    "rdmsr_exit_mitigated",
    "rdmsr_exit_4_vcpus",
    "wrmsr_exit",
    "wrmsr_exit_mitigated",
    "io_exit",
    "io_exit_mitigated",
    "mmio_exit",
    "mmio_exit_mitigated",
    "eoi",
    "eoi_apicv",
    "eoi_mmio",
    "eoi_mmio_apicv",
    "self_ipi",
    "self_ipi_apicv",
    "timer_irq",
    "timer_irq_apicv",
    "ipi_halted",
    "ipi_halted_apicv",
    "dirty_pml",
    "dirty_ad",
    "dirty_wp",
    "dirty_pml_sparse",
    "dirty_ad_sparse",
    "dirty_wp_sparse",
    "boot_to_ready",
    "zero_page_bytes",
    "page_encode",
    "page_seal",
    "page_socket",
    "page_network",
    "page_instructions",
    "idle_poll",
    "stopped_sealed",
    "stopped_insecure",
    "longest_turn_flood",
    "longest_turn_dmesg",
    "longest_turn_create",
    "longest_turn_tracking",
    "longest_turn_reset",
    "image_bytes",
];

/// What KVM (Linux 6.1, QEMU 7.2 for the zero page) takes for the same in the same emulator.
const KVM: [(&str, f64); 11] = [
    ("cpuid_exit", 974.0),
    ("cpuid_exit_mitigated", 1112.0),
    ("rdmsr_exit", 1089.0),
    ("rdmsr_exit_mitigated", 1323.0),
    ("io_exit", 3047.0),
    ("io_exit_mitigated", 7355.0),
    ("dirty_pml", 425.0),
    ("dirty_wp", 1806.0),
    ("boot_to_ready", 5970e6),
    ("zero_page_bytes", 9.0),
    ("image_zero_page_bytes", 9.0),
];

/// What the project wants to reach.
const REACH: [(&str, f64); 27] = [
    ("cpuid_exit", 150.0),
    ("cpuid_exit_mitigated", 250.0),
    ("rdmsr_exit", 180.0),
    ("eoi", 240.0),
    ("eoi_mmio", 350.0),
    ("self_ipi", 807.0),
    ("self_ipi_apicv", 403.0),
    ("timer_irq", 746.0),
    ("timer_irq_apicv", 746.0),
    ("dirty_pml", 36.0),
    ("dirty_ad", 40.0),
    ("dirty_wp", 200.0),
    ("boot_to_ready", 50e6),
    ("zero_page_bytes", 0.5),
    ("stopped_sealed", 20e6),
    ("stopped_insecure", 5e6),
    ("longest_turn_flood", 400_000.0),
    ("longest_turn_dmesg", 400_000.0),
    ("longest_turn_create", 400_000.0),
    ("longest_turn_tracking", 400_000.0),
    ("longest_turn_reset", 400_000.0),
    ("image_bytes", 1_048_576.0),
    ("image_zero_page_bytes", 0.05),
    ("image_wire_plain", 0.80),
    ("image_wire_lz4", 0.45),
    ("encode/memcpy", 0.80),
    ("all/aead", 0.85),
];

/// Ratios of speeds: the more the better.
const AT_LEAST: [&str; 2] = ["/memcpy", "/aead"];

const NOTES: &str = "\
A tick is one instruction (rep movsq of a page: 512). Exits include the loop around them, 3 ticks. A dirty_ figure is
the first write to a page, less the loop, and its share of one harvest, 4096 dirty pages of 16384, mitigations off;
_sparse: 164 dirty pages of them. boot_to_ready runs from the loader's entry. zero_page_bytes: all bytes of a
migration that are not the content of a data page, by zero pages. page_instructions: the source's own work and its TCP/IP for a data page on a keyed
link, by stage above it; idle_poll: a turn of the management loop that finds nothing. stopped_: work of both hosts while
an idle Debian of 128 MiB stands still, idle polls left out. longest_turn_: how long the loop that does everything but
guests is held at most, a console of 9600 baud, a VM that takes nearly all of 512 MiB. docs/bench.md says more.";

const NATIVE_NOTES: &str = "\
GB/s of guest RAM on this machine, and ratios of what took turns with each other. host: as the tests are built;
softfloat: as the kernel is, without vector registers; +simd: with the kernel's own SIMD section lent to the cipher.
scan: whether a page is one word over and over; encode: scan and into the record; hash: and the hash that finds unchanged
pages, as every migration does; aead: the link's cipher alone; all: from RAM to sealed frames. image_: an idle Debian of
128 MiB under QEMU, its stream and ours. docs/bench.md says more.";

/// One figure.
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    /// CPU model of the host; two where it takes two.
    pub(super) model: &'static str,
    emulated: bool,
    /// What it is to reach where that depends on another figure of the same run.
    reach: Option<f64>,
    /// KVM's where it was taken in the same run.
    kvm: Option<f64>,
}

impl Figure {
    /// Rounded to hundredths.
    pub(super) fn new(name: &str, value: f64, model: &'static str) -> Self {
        Self {
            name: name.to_string(),
            value: (value * 100.0).round() / 100.0,
            model,
            emulated: true,
            reach: None,
            kvm: None,
        }
    }

    /// Of this machine itself, not of an emulated host; five digits behind the point.
    pub(super) fn native(name: &str, value: f64, model: &'static str) -> Self {
        Self {
            name: name.to_string(),
            value: (value * 1e5).round() / 1e5,
            model,
            emulated: false,
            reach: None,
            kvm: None,
        }
    }

    /// The same, which is to be no more than `reach`.
    pub(super) fn with_reach(mut self, reach: Option<f64>) -> Self {
        self.reach = reach.map(|reach| (reach * 100.0).round() / 100.0);
        self
    }

    /// The same, for which KVM takes `kvm`.
    pub(super) fn with_kvm(mut self, kvm: f64) -> Self {
        self.kvm = Some(kvm);
        self
    }

    /// Instructions a second, as the emulator counts them.
    fn ips(&self) -> Option<u64> {
        self.emulated.then_some(IPS)
    }

    fn reach(&self) -> Option<f64> {
        // A native figure has the build and the cipher in front.
        let name = self.name.rsplit(' ').next().unwrap_or(&self.name);
        self.reach.or_else(|| looked_up(&REACH, name))
    }

    fn kvm(&self) -> Option<f64> {
        self.kvm.or_else(|| looked_up(&KVM, &self.name))
    }

    fn missed(&self) -> bool {
        let speed = AT_LEAST.iter().any(|end| self.name.ends_with(end));
        self.reach().is_some_and(|reach| if speed { self.value < reach } else { self.value > reach })
    }

    fn place(&self) -> usize {
        KEYS.iter().position(|key| *key == self.name).unwrap_or(KEYS.len())
    }
}

fn looked_up(table: &[(&str, f64)], name: &str) -> Option<f64> {
    table.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

/// The figures as a table; one that was not taken is named as such.
pub(super) fn table(figures: &[Figure]) -> String {
    let mut text = format!(
        "{:<22} {:>12} {:>12} {:>12} {:6}  {:>9}  model\n",
        "figure", "ours", "KVM", "reach", "", "ips"
    );
    let mut sorted: Vec<_> = figures.iter().collect();
    sorted.sort_by_key(|figure| figure.place());
    let cell = |value: Option<f64>| value.map_or("-".to_string(), |value| value.to_string());
    for figure in sorted {
        let Figure { name, value, model, .. } = figure;
        let verdict = match figure.reach() {
            None => "",
            Some(_) if figure.missed() => "MISSED",
            Some(_) => "ok",
        };
        let (kvm, reach) = (cell(figure.kvm()), cell(figure.reach()));
        let ips = figure.ips().map_or("-".to_string(), |ips| ips.to_string());
        text += &format!("{name:<22} {value:>12} {kvm:>12} {reach:>12} {verdict:6}  {ips:>9}  {model}\n");
    }
    let emulated = figures.iter().any(|figure| figure.emulated);
    for key in
        KEYS.iter().filter(|_| emulated).filter(|key| !figures.iter().any(|figure| figure.name == **key))
    {
        text += &format!("{key:<22} not taken\n");
    }
    text
}

pub(super) fn print_table(figures: &[Figure]) {
    let notes = if figures.iter().any(|figure| figure.emulated) { NOTES } else { NATIVE_NOTES };
    println!("{}\n{notes}", table(figures));
}

/// One object, with a member for each figure.
pub(super) fn json(figures: &[Figure]) -> String {
    let rows = figures.iter().map(|figure| {
        let Figure { name, value, model, .. } = figure;
        let member = |key: &str, value: Option<f64>| {
            value.map_or(String::new(), |value| format!(", \"{key}\": {value}"))
        };
        let (kvm, reach) = (member("kvm", figure.kvm()), member("reach", figure.reach()));
        let ips = figure.ips().map_or(String::new(), |ips| format!(", \"ips\": {ips}"));
        let ok = figure.reach().map_or(String::new(), |_| format!(", \"ok\": {}", !figure.missed()));
        format!("  \"{name}\": {{\"value\": {value}, \"model\": \"{model}\"{ips}{kvm}{reach}{ok}}}")
    });
    format!("{{\n{}\n}}", rows.collect::<Vec<_>>().join(",\n"))
}

pub(super) fn print_json(figures: &[Figure]) {
    println!("{}", json(figures));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_said() {
        let figures = [Figure::new("image_bytes", 3e6, "-"), Figure::new("cpuid_exit", 149.5, "m")];
        let text = table(&figures);
        let row = |name: &str| text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        assert!(row("image_bytes").contains("MISSED"));
        assert!(row("cpuid_exit").contains(" 974 ") && row("cpuid_exit").contains(" ok "));
        assert_eq!(row("dirty_ad").trim_end(), format!("{:<22} not taken", "dirty_ad"));
        assert!(text.find("cpuid_exit").unwrap() < text.find("image_bytes").unwrap());
        assert!(json(&figures).contains("\"reach\": 1048576, \"ok\": false}"));
    }

    #[test]
    fn tables_name_known_figures() {
        for (name, _) in KVM.iter().chain(&REACH) {
            let outside = name.contains('/') || name.starts_with("image_");
            assert!(KEYS.contains(name) || outside, "{name}");
        }
    }
}
