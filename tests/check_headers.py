#!/usr/bin/env python3
"""Checks that every header compiles alone, the public one as strict C99 and as C++, and README.md's program; prints TAP.

    check_headers.py ROOT COMPILER [ARGUMENT...]
"""

import os
import re
import shutil
import subprocess
import sys


def headers(root):
    for tree in ("include", "src", "cli", "server"):
        for directory, _, names in sorted(os.walk(os.path.join(root, tree))):
            for name in sorted(names):
                if name.endswith(".h"):
                    yield os.path.join(directory, name)


# Headers of one instruction set are compiled with its flags, and only where the compiler has it.
FLAGS = {"avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma"],
         "avx2": ["-mavx2", "-mfma"]}


def own_flags(path):
    if os.sep + "x86" + os.sep not in path:
        return []
    return next((flags for level, flags in FLAGS.items() if level in os.path.basename(path)), [])


def foreign(path, target):
    """Whether a header is for another kind of CPU than the compiler's."""
    x86 = target.startswith(("x86_64", "i686"))
    return (os.sep + "x86" + os.sep in path and not x86) or (
        os.sep + "arm" + os.sep in path and not target.startswith(("aarch64", "arm")))


def readme_program(root):
    with open(os.path.join(root, "README.md"), encoding="utf-8") as file:
        return "\n".join(re.findall(r"^```c\n(.*?)^```", file.read(), flags=re.S | re.M))


def compiles(root, compiler, source, language, flags):
    """The compiler's complaints about a source text, "" when there are none."""
    command = compiler + ["-x", language, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function",
                          *flags, "-I", os.path.join(root, "include"), "-"]
    run = subprocess.run(command, input=source, text=True, capture_output=True)
    return "" if run.returncode == 0 else run.stderr or "the compiler failed without a word"


def main():
    root, compiler = os.path.abspath(sys.argv[1]), sys.argv[2:] or ["cc"]
    inner = ["-std=gnu11", "-D_GNU_SOURCE", "-I", os.path.join(root, "src")]
    public = os.path.join(root, "include", "synaptoroute.h")
    target = subprocess.run(compiler + ["-dumpmachine"], text=True, capture_output=True).stdout
    alone = '#include "{}"\n'.format
    checks = [(os.path.relpath(h, root) + " compiles alone", compiler, alone(h), "c", inner + own_flags(h))
              for h in headers(root) if not foreign(h, target)]
    checks.append(("the public header is strict C99", compiler, alone(public), "c", ["-std=c99", "-pedantic"]))
    checks.append(("README.md's program compiles", compiler, readme_program(root), "c", ["-std=c11"]))
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
    faults = compiles(root, [cplusplus], alone(public), "c++", ["-std=c++11", "-pedantic"])
    print(f"{'not ok' if faults else 'ok'} {number} - {name}")
    for line in faults.splitlines()[:20]:
        print(f"# {line}")
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
