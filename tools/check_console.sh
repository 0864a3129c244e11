# The console's part of check, which sources this: what it needs, the option to build it, its tests in a browser.
# Expects what setup.sh and check define.

missing_for_console() {
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        echo chromium
}

# By itself, after the rest: without these packages everything else can still be tested.
install_for_console() {
    local missing
    missing=$(missing_for_console | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    say "installing: $missing"
    # shellcheck disable=SC2086 # a list of words
    apt_install $missing || say "not all of these could be installed: $missing"
}

# Prints the option to build with the console, where that can be done.
console_option() {
    local version
    version=$(node --version 2>/dev/null | tr -d v) || version=
    if [ -n "$version" ] && at_least "$version" 18 && command -v npm >/dev/null; then
        echo -Dconsole=enabled
    else
        echo -Dconsole=disabled
    fi
}

console_tests() {
    local log=$results/console python
    python=$(find_python)
    if [ "$(console_option)" != -Dconsole=enabled ] || [ ! -x "$root/build/server/synaptoroute-server" ]; then
        note "the console in a browser" skip "it is not built: Node.js 18, npm or the server's libraries are missing"
        return
    elif [ -z "$python" ]; then
        note "the console in a browser" skip "there is no pytest"
        return
    fi
    say "the console in a browser"
    logs+=("$log.xml")
    SYNAPTOROUTE_BUILD=$root/build PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q -p no:cacheprovider \
        --junit-xml="$log.xml" "$root/tests/console" >"$log.log" 2>&1 || true
    if [ -e "$log.xml" ]; then tail -n 1 "$log.log" >&2; else cat "$log.log" >&2; fi
}
