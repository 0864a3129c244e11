#!/usr/bin/env python3
"""Checks the order of the modules, the names of files and what programs may see; prints TAP.

    check_includes.py ROOT

The order is ARCHITECTURE.md's: a module includes its own headers and those of modules before it, never one
after it, and another module's x_int.h never. Programs know the router through the public header alone.
"""

import os
import re
import sys

ORDER = ["base", "cpu", "kernels", "text", "model", "encode", "index", "decide", "store", "sync", "router",
         "io", "eval"]
# Readers of files and the evaluation stand beside each other: neither may need the other.
SIBLINGS = [{"io", "eval"}]
PROGRAMS = {"cli": {"base", "io", "eval"}, "server": {"base", "io", "eval"}, "examples": set(), "python": set()}
TREES = ["include", "src", "cli", "server", "python", "examples", "tests", "tools", "bench"]
SOURCES = (".c", ".h", ".py", ".sh", ".inc")
REPEATED = {"__init__.py", "__main__.py", "conftest.py"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def files(root):
    """Yields the paths of all source files, relative to the root."""
    for tree in TREES:
        for directory, folders, names in os.walk(os.path.join(root, tree)):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "build", "__pycache__")))
            for name in sorted(names):
                if name.endswith(SOURCES):
                    yield os.path.relpath(os.path.join(directory, name), root)


def includes(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(1), match.group(2)


def allowed_modules(path):
    """The modules whose headers a file may include; None where there is no rule (tests)."""
    parts = path.split(os.sep)
    if parts[0] in PROGRAMS:
        return PROGRAMS[parts[0]]
    if parts[0] == "include":
        return set()
    if parts[0] != "src" or len(parts) < 3:
        return None
    if parts[1] not in ORDER:
        return set()
    allowed = set(ORDER[: ORDER.index(parts[1]) + 1])
    for siblings in SIBLINGS:
        if parts[1] in siblings:
            allowed -= siblings - {parts[1]}
    return allowed


def wrong_includes(root, path):
    allowed = allowed_modules(path)
    own = path.split(os.sep)[1]
    for number, quote, name in includes(os.path.join(root, path)):
        if quote == "<" or name == "synaptoroute.h" or allowed is None:
            continue
        where = f"{path}:{number}: includes {name}"
        module = name.split("/")[0]
        if "/" not in name:
            if path.startswith("src") or not os.path.exists(os.path.join(root, os.path.dirname(path), name)):
                yield where + ': write it as "module/file.h"'
        elif module not in allowed and not os.path.exists(os.path.join(root, path.split(os.sep)[0], name)):
            yield where + f": {path.split(os.sep)[0]}/{own} stands before {module} or may not see it"
        elif name.endswith("_int.h") and path.startswith("src") and module != own:
            yield where + ": a header that belongs to the files of another module"
        elif name.endswith("_int.h") and not path.startswith("src") and module in ORDER:
            yield where + ": a header that belongs to the files of a module"


def repeated_names(paths):
    seen = {}
    for path in paths:
        name = os.path.basename(path)
        if name not in REPEATED and name in seen:
            yield f"{path}: {seen[name]} has the same name"
        seen[name] = path


def odd_names(paths):
    for path in paths:
        if not re.fullmatch(r"(__)?[a-z0-9_]+(\.[a-z]+)?\.[a-z]+", os.path.basename(path)):
            yield f"{path}: names of files are snake_case"


def unknown_modules(root):
    for name in sorted(os.listdir(os.path.join(root, "src"))):
        if os.path.isdir(os.path.join(root, "src", name)) and name not in ORDER:
            yield f"src/{name}: a module that the order does not name"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    paths = list(files(root))
    checks = [
        ("modules include only what stands before them", [w for p in paths for w in wrong_includes(root, p)]),
        ("every module has its place in the order", list(unknown_modules(root))),
        ("file names are unique", list(repeated_names(paths))),
        ("file names are snake_case", list(odd_names(paths))),
        ("there are files to check", [] if len(paths) > 10 else [f"{root}: only {len(paths)} source files"]),
    ]
    print(f"1..{len(checks)}")
    for number, (name, faults) in enumerate(checks, 1):
        print(f"{'not ok' if faults else 'ok'} {number} - {name}")
        for fault in faults:
            print(f"# {fault}")
    return 1 if any(faults for _, faults in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
