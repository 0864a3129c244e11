#!/usr/bin/env python3
"""Counts what test runners reported and prints `N passed, N failed, N skipped`.

    count_tests.py LOG...

LOG is a Meson testlog.json, a JUnit .xml as pytest writes it, or a .tap file. A missing LOG counts as one
failure: the run it should hold did not happen. Before the count, the output of each failed test is
shown. The exit status is 1 when anything failed or nothing passed.
"""

import json
import os
import re
import sys
import xml.etree.ElementTree as xml

LINES = 120
TAP = re.compile(r"^(not )?ok\b\s*\d*\s*(?:-\s*)?(.*?)(?:\s*#\s*(SKIP|TODO)\b.*)?$", re.I)


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, result):
        setattr(self, result, getattr(self, result) + 1)


def show(title, text):
    print(f"---- failed: {title}")
    lines = text.rstrip().splitlines()
    if len(lines) > LINES:
        print(f"[{len(lines) - LINES} lines left out]")
    print("\n".join(lines[-LINES:]))


def tap_results(text):
    """(result, name) of each line of TAP that reports a test."""
    for line in text.splitlines():
        match = TAP.match(line)
        if match:
            failed, name, directive = match.groups()
            result = "skipped" if directive else "failed" if failed else "passed"
            yield result, name


def count_tap(path, count):
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    results = list(tap_results(text))
    for result, _ in results:
        count.add(result)
    if not results or any(result == "failed" for result, _ in results):
        show(path, text)
    if not results:
        count.add("failed")


def count_meson(path, count):
    with open(path, encoding="utf-8", errors="replace") as file:
        tests = [json.loads(line) for line in file if line.strip()]
    if not tests:
        count.add("failed")
        show(path, "no test ran")
    for test in tests:
        good = test["result"] in ("OK", "EXPECTEDFAIL")
        inner = [result for result, _ in tap_results(test.get("stdout") or "")]
        for result in inner:
            count.add(result)
        if test["result"] == "SKIP" and not inner:
            count.add("skipped")
        elif good and not inner:
            count.add("passed")
        elif not good and test["result"] != "SKIP":
            # A crash, a leak or a time-out fails a program none of whose tests did.
            if "failed" not in inner:
                count.add("failed")
            show(f"{test['name']} ({test['result']}) in the run {os.path.splitext(os.path.basename(path))[0]}",
                 (test.get("stdout") or "") + (test.get("stderr") or ""))


def count_junit(path, count):
    cases = list(xml.parse(path).getroot().iter("testcase"))
    if not cases:
        count.add("failed")
        show(path, "no test ran")
    for case in cases:
        fault = case.find("failure")
        fault = case.find("error") if fault is None else fault
        if fault is not None:
            count.add("failed")
            show(f"{case.get('classname')}.{case.get('name')}", (fault.get("message") or "") + "\n" + (fault.text or ""))
        else:
            count.add("passed" if case.find("skipped") is None else "skipped")


def main():
    count = Count()
    for path in sys.argv[1:]:
        reader = {".json": count_meson, ".xml": count_junit, ".tap": count_tap}[os.path.splitext(path)[1]]
        try:
            reader(path, count)
        except (OSError, ValueError, xml.ParseError) as fault:
            show(path, f"no results: {fault}")
            count.add("failed")
    print(f"{count.passed} passed, {count.failed} failed, {count.skipped} skipped")
    return 1 if count.failed or not count.passed else 0


if __name__ == "__main__":
    sys.exit(main())
