//! Says which kernel the application carries.

fn main() {
    println!("cargo:rerun-if-env-changed=FLEXVISOR_KERNEL");
    let kernel =
        std::env::var("FLEXVISOR_KERNEL").expect("FLEXVISOR_KERNEL names the kernel: use scripts/build-efi");
    println!("cargo:rerun-if-changed={kernel}");
    println!("cargo:rustc-env=FLEXVISOR_KERNEL={kernel}");
}
