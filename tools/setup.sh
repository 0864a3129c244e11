# Shared by quickstart and check, which source it: what a fresh Debian or Ubuntu machine lacks, and the build.
# Sets nothing up by itself. Expects $root, the root of the source tree, and bash.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

has_compiler() { echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1; }
has_library() { pkg-config --exists "$1" 2>/dev/null; }

# Prints the Debian packages that are missing of what a build needs.
missing_for_build() {
    # gcc only recommends the C library's headers, and recommendations are not installed.
    has_compiler || echo gcc libc6-dev
    command -v meson >/dev/null || echo meson
    command -v ninja >/dev/null || echo ninja-build
    command -v pkg-config >/dev/null || echo pkg-config
    has_library sqlite3 || echo libsqlite3-dev
    has_library jansson || echo libjansson-dev
    has_library yaml-0.1 || echo libyaml-dev
}

# Installs packages with apt-get, as root or by sudo; shows its output only when that fails. Returns 1 where it
# cannot be done.
apt_install() {
    local sudo=() log
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || return 1
        # Asks for a password now, if at all: later the question would go to the log.
        sudo -v || return 1
        sudo=(sudo)
    fi
    set -- "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 install "$@"
    log=$(mktemp)
    # Lists are fetched only if they are missing or stale.
    if "$@" >"$log" 2>&1 || { "${sudo[@]}" apt-get -q update >"$log" 2>&1 && "$@" >>"$log" 2>&1; }; then
        rm -f "$log"
        return 0
    fi
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
}

# Installs what the build needs and this machine lacks.
install_for_build() {
    local missing
    missing=$(missing_for_build | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    say "installing: $missing"
    # shellcheck disable=SC2086 # a list of words
    apt_install $missing || fail "this machine lacks packages that apt-get could not install (no apt-get, not root
and no sudo, or no network). Install the equivalents of these Debian packages and run this again: $missing"
    missing=$(missing_for_build | tr '\n' ' ')
    [ -z "$missing" ] || fail "still missing after installation: $missing"
}

# Whether version $1 is at least version $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Sets $meson to a Meson that is new enough; where the distribution's is not, one of its own under build/.
find_meson() {
    meson=meson
    at_least "$(meson --version)" 1.0.0 && return 0
    meson=$root/build/venv-meson/bin/meson
    [ -x "$meson" ] && return 0
    say "Meson $(meson --version) is too old, installing a newer one into build/venv-meson"
    rm -rf "$root/build/venv-meson"
    python3 -m venv "$root/build/venv-meson" >/dev/null 2>&1 || {
        apt_install python3-venv && python3 -m venv "$root/build/venv-meson"
    } || fail "Meson 1.0 or newer is needed, and no virtual environment could be made for it (package python3-venv)"
    "$root/build/venv-meson/bin/pip" install -q --disable-pip-version-check meson==1.5.2 ||
        fail "Meson 1.0 or newer is needed, and pip could not install it"
}

# configure DIR [OPTION...]: makes the build directory $root/DIR ready, with these options.
configure() {
    local directory=$root/$1
    shift
    # A tree that was moved or copied brings a build directory that points elsewhere.
    if [ -e "$directory/meson-info/meson-info.json" ] &&
        ! grep -qF "\"source\": \"$root\"" "$directory/meson-info/meson-info.json"; then
        rm -rf "$directory/meson-private" "$directory/meson-info" "$directory/build.ninja"
    fi
    if [ ! -e "$directory/build.ninja" ]; then
        "$meson" setup "$directory" "$root" "$@" >"$directory.log" 2>&1 || {
            tail -n 20 "$directory.log" >&2
            fail "the build could not be configured; the full log is $directory.log"
        }
        rm -f "$directory.log"
    elif [ $# -gt 0 ]; then
        "$meson" configure "$directory" "$@" >/dev/null
    fi
}

# build DIR [TARGET...]: brings the targets, or all, up to date; shows the output only when that fails.
build() {
    local directory=$root/$1 log
    shift
    log=$(mktemp)
    if ! ninja -C "$directory" "$@" >"$log" 2>&1; then
        grep -v '^\[' "$log" | head -n 60 >&2
        rm -f "$log"
        fail "the build failed"
    fi
    rm -f "$log"
}
