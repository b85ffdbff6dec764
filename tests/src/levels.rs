//! Which features (by Linux' names) each generation of Xeons brought, as far as a CPU level must hide them. Kept apart
//! from the hypervisor's own tables: this is the judge.

/// What every level has.
const ALWAYS: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 \
                      syscall nx lm x2apic hypervisor arat arch_capabilities";

/// What Linux shows besides: of its own making, by what it runs on.
pub const OF_LINUX: &[&str] = &[
    "ht",
    "ss", // cleared up to Westmere, whose self-snoop has errata
    "rep_good",
    "nopl",
    "cpuid",
    "constant_tsc",
    "tsc_known_freq",
    "xtopology",
    "pti",
    "ospke",
    "cpuid_fault",
    "invpcid_single",
    "art",
    "retpoline",
];

/// Generations, oldest first, under the names of the levels: what each brought, what of the one before it is gone.
const GENERATIONS: [(&str, &str, &str); 15] = [
    ("merom", "pni ssse3 cx16 lahf_lm", ""),
    ("penryn", "sse4_1", ""),
    ("nehalem", "sse4_2 popcnt rdtscp nonstop_tsc", ""),
    ("westmere", "aes pclmulqdq pcid", ""),
    ("sandybridge", "avx xsave xsaveopt tsc_deadline_timer", ""),
    ("ivybridge", "f16c rdrand fsgsbase smep erms", ""),
    ("haswell", "avx2 bmi1 bmi2 fma movbe invpcid abm pdpe1gb tsc_adjust", ""),
    ("broadwell", "rdseed adx smap 3dnowprefetch", ""),
    (
        "skylake-server",
        "avx512f avx512dq avx512cd avx512bw avx512vl clflushopt clwb xsavec xgetbv1 xsaves",
        "",
    ),
    ("cascadelake", "avx512_vnni pku ospke ibrs ibpb stibp ssbd md_clear flush_l1d ibrs_enhanced", ""),
    ("cooperlake", "avx512_bf16", ""),
    (
        "icelake-server",
        "avx512ifma avx512vbmi avx512_vbmi2 avx512_bitalg avx512_vpopcntdq gfni vaes vpclmulqdq sha_ni umip rdpid \
         fsrm wbnoinvd",
        "avx512_bf16",
    ),
    ("sapphirerapids", "avx_vnni avx512_bf16 avx512_fp16 serialize movdiri movdir64b cldemote", ""),
    ("emeraldrapids", "", ""),
    ("graniterapids", "", ""),
];

/// The levels beside that line: on what each builds, what it brought, what of that is gone.
const BESIDE: [(&str, &str, &str, &str); 13] = [
    ("haswell-ibrs", "haswell", "md_clear ibrs ibpb stibp ssbd flush_l1d", ""),
    ("broadwell-ibrs", "broadwell", "md_clear ibrs ibpb stibp ssbd flush_l1d", ""),
    ("skylake-server-ibrs", "skylake-server", "md_clear ibrs ibpb stibp ssbd flush_l1d", ""),
    ("diamondrapids", "graniterapids", "", ""),
    (
        "avoton",
        "nehalem",
        "aes pclmulqdq movbe rdrand tsc_deadline_timer smep erms tsc_adjust 3dnowprefetch",
        "",
    ),
    (
        "denverton",
        "avoton",
        "xsave xsaveopt xsavec xgetbv1 xsaves fsgsbase smap rdseed clflushopt sha_ni pdpe1gb ibrs ibpb stibp",
        "",
    ),
    ("snowridge", "denverton", "ssbd clwb gfni umip movdiri movdir64b cldemote", "stibp"),
    (
        "knightslanding",
        "ivybridge",
        "avx2 fma movbe bmi1 bmi2 abm pdpe1gb tsc_adjust rdseed adx 3dnowprefetch avx512f avx512cd avx512er avx512pf",
        "pcid",
    ),
    (
        "avx2-common",
        "broadwell",
        "clflushopt clwb xsavec xgetbv1 xsaves pku ospke sha_ni gfni vaes vpclmulqdq umip rdpid fsrm ibrs ibpb ssbd \
         ibrs_enhanced",
        "",
    ),
    ("rocketlake", "icelake-server", "", "clwb wbnoinvd"),
    ("raptorlake", "avx2-common", "avx_vnni serialize movdiri movdir64b stibp flush_l1d md_clear", ""),
    ("sierraforest", "avx2-common", "avx_vnni serialize movdiri movdir64b cldemote wbnoinvd", ""),
    ("clearwaterforest", "sierraforest", "sha512 sm3 sm4", ""),
];

/// The levels of user space: all that each has beyond what every level has, as the psABI lists it under Linux' names.
const USER_SPACES: [(&str, &str); 5] = [
    ("x86-64-v1", ""),
    ("x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("x86-64-v2-aes", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 aes"),
    ("x86-64-v3", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    (
        "x86-64-v4",
        "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave avx512f avx512bw \
         avx512cd avx512dq avx512vl",
    ),
];

/// What the variants with TSX may have more.
const TSX: &str = "hle rtm tsxldtrk";

/// What no level has, whatever its silicon had.
const NEVER: &str = "mpx la57 amx_tile amx_int8 amx_bf16 waitpkg enqcmd pconfig user_shstk ibt arch_lbr intel_pt sgx \
                     vmx smx monitor dtes64 pdcm cqm rdt_a hwp aperfmperf avx512_vp2intersect avx512pf avx512er";

/// Features of the level; none for one that is not known here.
fn features(level: &str) -> Option<Vec<&'static str>> {
    if let Some((_, has)) = USER_SPACES.iter().find(|(name, _)| *name == level) {
        return Some(has.split_whitespace().collect());
    }
    if let Some((_, base, adds, drops)) = BESIDE.iter().find(|(name, ..)| *name == level) {
        let mut has = features(base)?;
        has.retain(|feature| !drops.split_whitespace().any(|gone| gone == *feature));
        has.extend(adds.split_whitespace());
        return Some(has);
    }
    let (plain, tsx) = level.strip_suffix("-tsx").map_or((level, false), |plain| (plain, true));
    let at = GENERATIONS.iter().position(|(name, _, _)| *name == plain)?;
    let mut has: Vec<&str> = if tsx { TSX.split_whitespace().collect() } else { Vec::new() };
    for (_, adds, drops) in &GENERATIONS[..=at] {
        has.retain(|feature| !drops.split_whitespace().any(|gone| gone == *feature));
        has.extend(adds.split_whitespace());
    }
    Some(has)
}

/// Flags of /proc/cpuinfo that a guest at `level` must see; none for a level that is not known here.
pub fn flags(level: &str) -> Option<Vec<&'static str>> {
    let mut flags = features(level)?;
    flags.extend(ALWAYS.split_whitespace());
    Some(flags)
}

/// Features that a guest at `level` must not see; none for a level that is not known here. `A+B` is the level of a
/// pool of these.
pub fn beyond(level: &str) -> Option<Vec<&'static str>> {
    let (first, others) = level.split_once('+').unwrap_or((level, ""));
    let mut has = features(first)?;
    for other in others.split('+').filter(|other| !other.is_empty()) {
        let other = features(other)?;
        has.retain(|feature| other.contains(feature));
    }
    let beside = BESIDE.iter().map(|(_, _, adds, _)| *adds);
    let all = GENERATIONS.iter().map(|(_, adds, _)| *adds).chain(beside).chain([TSX, NEVER]);
    let mut beyond: Vec<_> =
        all.flat_map(str::split_whitespace).filter(|feature| !has.contains(feature)).collect();
    beyond.sort_unstable();
    beyond.dedup();
    Some(beyond)
}

/// The generation that a Bochs model belongs to, by the level's name.
pub fn generation(model: &str) -> Option<&'static str> {
    Some(match model {
        "core2_penryn_t9600" => "penryn",
        "corei5_lynnfield_750" => "nehalem",
        "corei5_arrandale_m520" => "westmere",
        "corei7_sandy_bridge_2600k" => "sandybridge",
        "corei7_ivy_bridge_3770k" => "ivybridge",
        "corei7_haswell_4770" => "haswell",
        "broadwell_ult" => "broadwell",
        "corei7_skylake_x" => "skylake-server",
        "sapphire_rapids" => "sapphirerapids",
        // No Xeon: a client's CPU without AVX-512.
        "arrow_lake" => "broadwell",
        "corei3_cnl" | "corei7_icelake_u" | "tigerlake" => "icelake-server",
        _ => return None,
    })
}

/// Features that a host of `model` may have and a guest at `level` must not see.
pub fn hidden(model: &str, level: &str) -> Option<Vec<&'static str>> {
    let above = beyond(generation(model)?)?;
    Some(beyond(level)?.into_iter().filter(|feature| !above.contains(feature)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skylake_at_level_haswell_hides_avx512() {
        let hidden = hidden("corei7_skylake_x", "haswell").unwrap();
        assert!(hidden.contains(&"avx512f") && hidden.contains(&"rdseed"));
        assert!(!hidden.contains(&"avx2") && !hidden.contains(&"gfni"));
        assert_eq!(beyond("pentium"), None);
    }

    #[test]
    fn the_generations_are_no_ladder() {
        assert!(!beyond("cooperlake").unwrap().contains(&"avx512_bf16"));
        assert!(beyond("icelake-server").unwrap().contains(&"avx512_bf16"));
        assert!(!beyond("sapphirerapids").unwrap().contains(&"avx512_bf16"));
        assert!(
            beyond("haswell").unwrap().contains(&"rtm") && !beyond("haswell-tsx").unwrap().contains(&"rtm")
        );
        assert!(beyond("graniterapids").unwrap().contains(&"amx_tile"));
        assert!(
            beyond("x86-64-v3").unwrap().contains(&"aes") && !beyond("haswell").unwrap().contains(&"aes")
        );
        assert!(beyond("raptorlake").unwrap().contains(&"avx512f"));
        assert!(!beyond("clearwaterforest").unwrap().contains(&"vaes"));
        assert!(beyond("x86-64-v1").unwrap().contains(&"pni"));
    }
}
