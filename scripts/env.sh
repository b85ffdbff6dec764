# Sourced by the other scripts: the one place that decides which toolchain builds the project.
# Debian's rustc-web where it is installed, else whatever cargo the PATH has (nightly with rust-src).
if [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ]; then
    export RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTFMT=/usr/bin/rustfmt RUSTDOC=/usr/bin/rustdoc
    PATH=/usr/bin:$PATH
else
    export CARGO=cargo
fi
export RUSTC_BOOTSTRAP=1 # build-std and the JSON target are unstable
export PATH
