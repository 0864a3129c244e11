#!/usr/bin/env python3
"""Checks that the shared library exports what the public header declares, and nothing else; prints TAP.

    check_symbols.py ROOT LIBRARY
"""

import os
import re
import shutil
import subprocess
import sys


def main():
    root, library = sys.argv[1:3]
    print("1..2")
    if shutil.which("nm") is None:
        print("ok 1 - nothing else is exported # SKIP there is no nm\nok 2 - all is exported # SKIP there is no nm")
        return 0
    with open(os.path.join(root, "include", "synaptoroute.h"), encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    declared = set(re.findall(r"^SR_API[^;]*?\b(sr_\w+)\(", text, flags=re.M))
    listing = subprocess.run(["nm", "-D", "--defined-only", library], text=True, capture_output=True, check=True)
    exported = {line.split()[-1].split("@")[0] for line in listing.stdout.splitlines() if line}
    # Sanitizers add symbols of their own.
    exported = {name for name in exported if not name.startswith(("__", "_init", "_fini", "_edata", "_end"))}
    failed = False
    for number, name, faults in ((1, "nothing else is exported", exported - declared),
                                 (2, "all that the header declares is exported", declared - exported)):
        failed = failed or bool(faults)
        print(f"{'not ok' if faults else 'ok'} {number} - {name}")
        for fault in sorted(faults):
            print(f"# {fault}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
