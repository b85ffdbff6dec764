//! What the levels beside the line of generations rest on. The kernel asks for none of it.

use super::Level;

/// By name; of a level that is not here: the SDM, and dumps of several such CPUs.
static SOURCES: &[(&str, &str)] = &[
    ("avoton", "CPUID of a C2750 and a C2758"),
    ("denverton", "CPUID of a C3958; IA32_ARCH_CAPABILITIES by its model and as QEMU has it"),
    (
        "snowridge",
        "libvirt's and QEMU's Snowridge, less IBRS_ALL; XSAVES as in denverton; IA32_ARCH_CAPABILITIES as Linux \
         reports Tremont's flaws",
    ),
    (
        "knightslanding",
        "CPUID of a 7210 and a 7290 of pre-production; of PCID, INVPCID and SMAP there is none",
    ),
    (
        "avx2-common",
        "what the levels icelake-server, sapphirerapids, graniterapids, raptorlake and sierraforest have in common, as \
         far as it is older than these",
    ),
    ("rocketlake", "CPUID of an E-2356G; IA32_ARCH_CAPABILITIES as Linux reports its flaws"),
    ("raptorlake", "CPUID of a 6315P; IA32_ARCH_CAPABILITIES by its model and as Linux reports its flaws"),
    ("sierraforest", "libvirt's SierraForest-v2, which is QEMU's"),
    ("clearwaterforest", "libvirt's ClearwaterForest, which is QEMU's"),
    ("diamondrapids", "libvirt's DiamondRapids, and Intel's extensions reference for the names"),
    (
        "haswell-ibrs",
        "Intel's microcode guidance, QEMU's Haswell-noTSX-IBRS, and dumps with microcode of 2019",
    ),
    ("broadwell-ibrs", "Intel's microcode guidance, QEMU's Broadwell-noTSX-IBRS"),
    ("skylake-server-ibrs", "CPUID of a D-2183IT and a 8160; MD_CLEAR as the microcode of 2019 has it"),
];

impl Level {
    /// What is known of such CPUs, where it is no more than a few dumps or another project's model.
    #[must_use]
    pub fn rests_on(&self) -> Option<&'static str> {
        SOURCES.iter().find(|(name, _)| *name == self.name).map(|(_, source)| *source)
    }
}
