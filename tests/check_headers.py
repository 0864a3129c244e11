#!/usr/bin/env python3
"""Checks that every header compiles alone, and the public one as strict C99 and as C++; prints TAP.

    check_headers.py ROOT COMPILER [ARGUMENT...]
"""

import os
import shutil
import subprocess
import sys


def headers(root):
    for tree in ("include", "src", "cli", "server"):
        for directory, _, names in sorted(os.walk(os.path.join(root, tree))):
            for name in sorted(names):
                if name.endswith(".h"):
                    yield os.path.join(directory, name)


def compiles(root, compiler, header, language, flags):
    """The compiler's complaints about a file that holds nothing but the header, "" when there are none."""
    command = compiler + ["-x", language, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
                          *flags, "-I", os.path.join(root, "include"), "-"]
    run = subprocess.run(command, input=f'#include "{header}"\n', text=True, capture_output=True)
    return "" if run.returncode == 0 else run.stderr or "the compiler failed without a word"


def main():
    root, compiler = os.path.abspath(sys.argv[1]), sys.argv[2:] or ["cc"]
    inner = ["-std=gnu11", "-D_GNU_SOURCE", "-I", os.path.join(root, "src")]
    public = os.path.join(root, "include", "synaptoroute.h")
    checks = [(os.path.relpath(h, root) + " compiles alone", compiler, h, "c", inner) for h in headers(root)]
    checks.append(("the public header is strict C99", compiler, public, "c", ["-std=c99", "-pedantic"]))
    cplusplus = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    print(f"1..{len(checks) + 1}")
    failed = False
    for number, (name, *check) in enumerate(checks, 1):
        faults = compiles(root, *check)
        failed = failed or bool(faults)
        print(f"{'not ok' if faults else 'ok'} {number} - {name}")
        for line in faults.splitlines()[:20]:
            print(f"# {line}")
    number, name = len(checks) + 1, "the public header is C++"
    if cplusplus is None:
        print(f"ok {number} - {name} # SKIP there is no C++ compiler")
        return 1 if failed else 0
    faults = compiles(root, [cplusplus], public, "c++", ["-std=c++11", "-pedantic"])
    print(f"{'not ok' if faults else 'ok'} {number} - {name}")
    for line in faults.splitlines()[:20]:
        print(f"# {line}")
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
