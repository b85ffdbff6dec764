//! Hands the linker script to the linker and the commit to the banner.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed={dir}/linker.ld");
    println!("cargo:rustc-link-arg-bins=-T{dir}/linker.ld");
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo:rerun-if-env-changed=FLEXVISOR_COMMIT");
    let commit = std::env::var("FLEXVISOR_COMMIT").unwrap_or_else(|_| "unknown".into());
    println!("cargo:rustc-env=FLEXVISOR_COMMIT={commit}");
}
