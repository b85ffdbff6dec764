//! Which features (by Linux' names) each generation of Xeons brought, as far as a CPU level must hide them. Kept apart
//! from the hypervisor's own tables: this is the judge.

/// Generations, oldest first, under the names of the levels, with what each added.
const GENERATIONS: [(&str, &str); 9] = [
    ("nehalem", ""),
    ("westmere", "aes pclmulqdq"),
    ("sandybridge", "avx xsave xsaveopt"),
    ("ivybridge", "f16c rdrand fsgsbase smep"),
    ("haswell", "avx2 bmi1 bmi2 fma movbe invpcid"),
    ("broadwell", "rdseed adx smap"),
    (
        "skylake-server",
        "avx512f avx512dq avx512cd avx512bw avx512vl clflushopt clwb xsavec xgetbv1 xsaves mpx pku",
    ),
    (
        "icelake-server",
        "avx512_vnni avx512ifma avx512vbmi avx512_vbmi2 avx512_bitalg avx512_vpopcntdq gfni vaes vpclmulqdq sha_ni umip \
         rdpid la57 fsrm",
    ),
    (
        "sapphirerapids",
        "amx_tile amx_int8 amx_bf16 avx_vnni avx512_bf16 avx512_fp16 serialize movdiri movdir64b cldemote waitpkg \
         enqcmd avx512_vp2intersect",
    ),
];

/// Features that a guest at `level` must not see; none for a level that is not known here.
pub fn beyond(level: &str) -> Option<Vec<&'static str>> {
    let at = GENERATIONS.iter().position(|(name, _)| *name == level)?;
    Some(GENERATIONS[at + 1..].iter().flat_map(|(_, features)| features.split_whitespace()).collect())
}

/// The generation that a Bochs model belongs to, by the level's name.
pub fn generation(model: &str) -> Option<&'static str> {
    Some(match model {
        "corei5_lynnfield_750" => "nehalem",
        "corei5_arrandale_m520" => "westmere",
        "corei7_sandy_bridge_2600k" => "sandybridge",
        "corei7_ivy_bridge_3770k" => "ivybridge",
        "corei7_haswell_4770" => "haswell",
        "broadwell_ult" => "broadwell",
        "corei7_skylake_x" => "skylake-server",
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
}
