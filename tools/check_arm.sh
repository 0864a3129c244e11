# Sourced by check: the kernels of arm64, built by the cross compiler and tested under an emulator, qemu-user. Expects
# tools/setup.sh and check's build_in, meson_tests and note. Takes well under a minute.

arm_compiler=aarch64-linux-gnu-gcc
arm_emulator=qemu-aarch64

missing_for_arm() {
    command -v $arm_compiler >/dev/null || echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || echo libc6-dev-arm64-cross
    command -v $arm_emulator >/dev/null || echo qemu-user
}

# CPUs that between them have each level as their best: plain NEON, dotprod, i8mm.
arm_tests() {
    local missing cpu
    if [ "$(uname -m)" = aarch64 ]; then
        note "arm64 kernels under an emulator" skip "this machine is one: its own tests cover them"
        return
    fi
    missing=$(missing_for_arm | sort -u | tr '\n' ' ')
    if [ -n "${missing// /}" ]; then
        say "installing: $missing"
        # shellcheck disable=SC2086 # a list of words
        apt_install $missing || {
            note "arm64 kernels under an emulator" skip "these packages could not be installed: $missing"
            return
        }
    fi
    # Anew each time, which takes seconds: Meson reads the cross file only when it first configures a directory.
    rm -rf "$root/build-arm"
    build_in build-arm "arm64 kernels" --cross-file "$root/tests/cross/aarch64-linux-gnu.ini" -Dkernels_only=true ||
        return 0
    for cpu in cortex-a72 neoverse-n1 max; do
        QEMU_CPU=$cpu meson_tests build-arm "arm-$cpu" "arm64 kernels on an emulated $cpu"
    done
}
